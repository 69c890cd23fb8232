// Names for identifiers. The chat knows only the EHR's identifiers; a real EHR has the names. Here only the demo people have names, and
// only in development mode: elsewhere the same identifier may belong to another person.

import { h } from "./dom.js";

export const development = document.querySelector('meta[name="chat-mode"]')?.content === "development";

export const DEMO_LOCATION = "loc1";
export const DEMO_PEOPLE = [
  { user_id: "doc123", name: "Dr. Amara Okafor", about: "Cardiology" },
  { user_id: "nurse7", name: "Lena Fischer", about: "Nurse, ward 4" },
  { contact_id: "pat456", name: "Maria Santos", about: "Patient" },
  { contact_id: "pat789", name: "Jonas Weber", about: "Patient" },
];

const getId = ({ user_id, contact_id }) => user_id ?? contact_id;

export const isSameParticipant = (a, b) => Boolean(a && b) && a.user_id === b.user_id && a.contact_id === b.contact_id;

/** `{ name, about }` to show for a participant. */
export function describeParticipant(participant, location_id) {
  const demoPerson = development && location_id === DEMO_LOCATION && DEMO_PEOPLE.find((one) => isSameParticipant(one, participant));
  return demoPerson || { name: getId(participant), about: participant.user_id !== undefined ? "Staff" : "Patient" };
}

/** Creates a coloured disc with initials. */
export function createAvatar(participant, location_id) {
  const { name } = describeParticipant(participant, location_id);
  const words = name.replace(/^Dr\.? /, "").split(/[\s._~-]+/).filter(Boolean);
  const initials = words.length > 1 ? words[0][0] + words.at(-1)[0] : name.slice(0, 2);
  const tone = [...getId(participant)].reduce((sum, char) => (sum * 7 + char.codePointAt(0)) % 997, 0) % 6;
  return h("span", { class: `avatar tone-${tone}`, "aria-hidden": "true" }, initials.toUpperCase());
}
