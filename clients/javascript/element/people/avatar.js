// A coloured disc with initials. It decorates: the name stands beside it.

import { h } from "../dom.js";
import { idOfPerson } from "./person-key.js";

const TONES = 6;

/**
 * @param {import("ehr-chat-client").Participant} person
 * @param {string} name
 */
export function createAvatar(person, name) {
  const words = name.replace(/^(?:Dr|Prof)\.? /, "").split(/[\s._~-]+/).filter(Boolean);
  const characters = words.length > 1 ? [[...words[0]][0], [...words[words.length - 1]][0]] : [...name].slice(0, 2);
  const tone = [...idOfPerson(person)].reduce((sum, character) => (sum * 7 + Number(character.codePointAt(0))) % 997, 0) % TONES;
  return h("span", { class: `avatar tone-${tone}`, part: "avatar", "aria-hidden": "true" }, characters.join("").toLocaleUpperCase());
}
