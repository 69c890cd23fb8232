// The language of the page, its texts and its dates. The texts are in `clients/javascript/element/strings/`. `t` and `dates` are live
// bindings: after `applyLanguage` each new view speaks the chosen language.

import { createLanguage } from "/sdk/element/strings/index.js";

import { getSetting } from "./settings.js";

/** Names of the languages in themselves, so that a reader finds theirs. */
export const LANGUAGE_NAMES = { en: "English", de: "Deutsch" };

export let t;
export let dates;

/** Takes the chosen language, or the browser's. The chosen one keeps the browser's region: `de-AT` for German in Austria. */
export function applyLanguage() {
  const chosen = getSetting("language");
  const preferred = navigator.languages ?? [];
  const tags = chosen === "auto" ? preferred : [...preferred.filter((tag) => tag.split("-")[0] === chosen), chosen];
  const { language, ...texts } = createLanguage(tags);
  ({ t, dates } = texts);
  document.documentElement.lang = tags.find((tag) => tag.split("-")[0] === language) ?? language; // `<ehr-chat>` follows it
}

applyLanguage();
