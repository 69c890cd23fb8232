/**
 * The first of these locales that has texts here, and its language.
 * @param {readonly string[]} wanted For example `["fr", "de-AT"]`.
 * @returns {{ language: string, locale: string | undefined }} English without a locale when none has texts: dates then follow the browser.
 */
export function chooseLanguage(wanted: readonly string[]): {
    language: string;
    locale: string | undefined;
};
/**
 * The function that looks texts up, in the language that `chooseLanguage` finds.
 * @param {readonly string[]} wanted
 * @param {Partial<Texts>} [own] Texts that replace those of the language. Their plural forms are those of the first wanted locale.
 * @returns {Translate} It throws for a key or a placeholder that does not exist, so that a test finds the mistake.
 */
export function createTranslator(wanted: readonly string[], own?: Partial<Texts>): Translate;
/**
 * The texts and the dates for a viewer.
 * @param {readonly string[]} [wanted] Default: the browser's languages.
 * @param {Partial<Texts>} [own]
 */
export function createLanguage(wanted?: readonly string[], own?: Partial<Texts>): {
    language: string;
    t: Translate;
    dates: Dates;
};
/** A text, or its forms by plural category (`Intl.PluralRules`). @typedef {string | ({ other: string } & Partial<Record<Intl.LDMLPluralRule, string>>)} Text */
/** @typedef {keyof typeof en} TextKey */
/** @typedef {Record<TextKey, Text>} Texts */
/** @typedef {(key: TextKey, values?: Record<string, string | number>) => string} Translate */
/** The complete languages. @type {Readonly<Record<string, Texts>>} */
export const LANGUAGES: Readonly<Record<string, Texts>>;
/**
 * A text, or its forms by plural category (`Intl.PluralRules`).
 */
export type Text = string | ({
    other: string;
} & Partial<Record<Intl.LDMLPluralRule, string>>);
export type TextKey = keyof typeof en;
export type Texts = Record<TextKey, Text>;
export type Translate = (key: TextKey, values?: Record<string, string | number>) => string;
import { Dates } from "./dates.js";
import { en } from "./en.js";
