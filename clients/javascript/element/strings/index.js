// The texts of a language, and the function that looks them up. A page may bring a language of its own, or other words for single keys.

import { Dates } from "./dates.js";
import { de } from "./de.js";
import { en } from "./en.js";

/** A text, or its forms by plural category (`Intl.PluralRules`). @typedef {string | ({ other: string } & Partial<Record<Intl.LDMLPluralRule, string>>)} Text */
/** @typedef {keyof typeof en} TextKey */
/** @typedef {Record<TextKey, Text>} Texts */
/** @typedef {(key: TextKey, values?: Record<string, string | number>) => string} Translate */

/** The complete languages. @type {Readonly<Record<string, Texts>>} */
export const LANGUAGES = { en, de };

/**
 * The first of these locales that has texts here, and its language.
 * @param {readonly string[]} wanted For example `["fr", "de-AT"]`.
 * @returns {{ language: string, locale: string | undefined }} English without a locale when none has texts: dates then follow the browser.
 */
export function chooseLanguage(wanted) {
  for (const locale of wanted) {
    const [language] = locale.toLowerCase().split("-");
    if (Object.hasOwn(LANGUAGES, language)) return { language, locale };
  }
  return { language: "en", locale: undefined };
}

/**
 * The function that looks texts up, in the language that `chooseLanguage` finds.
 * @param {readonly string[]} wanted
 * @param {Partial<Texts>} [own] Texts that replace those of the language. Their plural forms are those of the first wanted locale.
 * @returns {Translate} It throws for a key or a placeholder that does not exist, so that a test finds the mistake.
 */
export function createTranslator(wanted, own = {}) {
  const { language, locale } = chooseLanguage(wanted);
  const numbers = new Intl.NumberFormat(locale ?? wanted[0]);
  const plurals = new Intl.PluralRules(language);
  const ownPlurals = new Intl.PluralRules(wanted[0]);
  return (key, values = {}) => {
    const isOwn = own[key] !== undefined;
    const text = own[key] ?? LANGUAGES[language][key];
    if (text === undefined) throw new RangeError(`there is no text ${key}`);
    const form = typeof text === "string" ? text : text[(isOwn ? ownPlurals : plurals).select(Number(values.count))] ?? text.other;
    return form.replace(/\{(\w+)\}/g, (placeholder, name) => {
      const value = values[name];
      if (value === undefined && !isOwn) throw new RangeError(`${key} needs ${name}`);
      return typeof value === "number" ? numbers.format(value) : value === undefined ? placeholder : isolate(value, form);
    });
  };
}

// Letters of Hebrew, Arabic and their relatives.
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/** Keeps a value of the other direction from changing the order of the words around it. @param {string} value @param {string} form */
function isolate(value, form) {
  return RIGHT_TO_LEFT.test(value) || RIGHT_TO_LEFT.test(form) ? `\u2068${value}\u2069` : value;
}

/**
 * The texts and the dates for a viewer.
 * @param {readonly string[]} [wanted] Default: the browser's languages.
 * @param {Partial<Texts>} [own]
 */
export function createLanguage(wanted = globalThis.navigator?.languages ?? [], own = {}) {
  const known = wanted.filter(isLocale).map(addRegion);
  const { language, locale } = chooseLanguage(known);
  const t = createTranslator(known, own);
  return { language, t, dates: new Dates(locale ?? known[0], t) };
}

/** A page says "en"; the browser knows that its user writes dates as in "en-GB". @param {string} tag */
function addRegion(tag) {
  return globalThis.navigator?.languages?.find((locale) => locale.toLowerCase().startsWith(`${tag.toLowerCase()}-`)) ?? tag;
}

/** @param {string} tag */
function isLocale(tag) {
  try {
    return Intl.getCanonicalLocales(tag).length === 1;
  } catch {
    return false;
  }
}
