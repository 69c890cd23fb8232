// All texts are in one file for each language.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { chooseLanguage, createLanguage, createTranslator, LANGUAGES } from "../../element/strings/index.js";

const CLIENTS = fileURLToPath(new URL("../../../", import.meta.url));
/** What looks like words and is the same in every language: names of keys, headers, languages and commands. */
const ALLOWED = ["Enter", "Escape", "Content-Type", "Bearer ", "eyJ…", "English", "Deutsch", "make token SUB= ROLE= LOCATION=loc1"];
/** Folders whose code must take what users read from the texts. */
const FOLDERS = ["javascript/element", "console"];
const { en } = LANGUAGES;

async function readSources(folders) {
  const files = [];
  for (const folder of folders) {
    for (const name of await readdir(CLIENTS + folder, { recursive: true })) if (name.endsWith(".js")) files.push(`${folder}/${name}`);
  }
  return Promise.all(files.map(async (file) => [file, await readFile(CLIENTS + file, "utf8")]));
}

const forms = (text) => (typeof text === "string" ? [text] : Object.values(text));
const placeholders = (text) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

test("every language has the same keys, placeholders and plural forms", () => {
  for (const [language, texts] of Object.entries(LANGUAGES)) {
    assert.deepEqual(Object.keys(texts), Object.keys(en), language);
    for (const [key, text] of Object.entries(texts)) {
      for (const form of forms(text)) {
        assert.notEqual(form.trim(), "", `${language} ${key}`);
        assert.deepEqual(placeholders(form), placeholders(forms(en[key])[0]), `${language} ${key}`);
      }
      assert.equal(typeof text, typeof en[key], `${language} ${key}`);
      if (typeof text !== "string") assert.deepEqual(Object.keys(text).sort(), new Intl.PluralRules(language).resolvedOptions().pluralCategories.sort(), `${language} ${key}`);
    }
  }
});

test("every text is used", async () => {
  const code = (await readSources(["javascript/element", "console"])).filter(([file]) => !/strings\/\w\w\.js$/.test(file)).map(([, text]) => text).join("\n");
  for (const key of Object.keys(en)) assert.ok(code.includes(`"${key}"`), `no code uses ${key}`);
});

/** The texts of string and template literals, with the code before each. */
function findLiterals(source) {
  const literals = [];
  const pattern = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|(?<=[(=,:[!&|?{};]\s*|return\s)\/(?![/*])(?:\\.|\[(?:\\.|[^\]\n])*\]|[^/\\\n])+\/[a-z]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g;
  for (const { 0: text, index } of source.matchAll(pattern)) {
    if (!/^["'`]/.test(text)) continue;
    const before = source.slice(0, index);
    literals.push({ text: text.slice(1, -1).replace(/\$\{[^}]*\}/g, ""), before: before.slice(before.lastIndexOf("\n") + 1), line: before.split("\n").length });
  }
  return literals;
}

/** Whether a user could read this: words, as opposed to names of classes, attributes, files and keys. */
function isVisible({ text, before }) {
  if (/(?:class|part|rel): (?:[^"'`]*\? )?$|(?:class|part|rel): [^"'`]*\? "[^"]*" : $|\b(?:import|from|throw new \w+\(|RangeError\()\s*$|classList\.\w+\([^)]*$|(?:querySelector(?:All)?|matchMedia)\($/.test(before)) return false;
  return /\p{L}{2,}[,;:]?\s+\p{L}/u.test(text) || /^\s*\p{Lu}\p{Ll}+[\s\p{L}]*[….!?:]?\s*$/u.test(text) || /\p{L}{2,}(?:[….!?]|: )$/u.test(text);
}

test("what users read is in the texts, nowhere else", async () => {
  const found = [];
  for (const [file, source] of await readSources(FOLDERS)) {
    if (/\/(?:strings\/\w\w|styles\/\S+|demo-people)\.js$/.test(file)) continue; // names of people are no texts
    for (const literal of findLiterals(source)) if (isVisible(literal) && !ALLOWED.includes(literal.text)) found.push(`${file}:${literal.line}: ${literal.text}`);
  }
  assert.deepEqual(found, []);
});

test("the search for texts finds a text", () => {
  for (const code of [
    'h("p", {}, "Not sent yet")', "setText(x, `Last seen`)", 'h("button", { title: "Send" })', 'h("p", {}, "Loading…")', "alert('Sign out?')", 'h("b", {}, isFull ? "Discard" : "")',
  ]) assert.equal(findLiterals(code).filter(isVisible).length, 1, code);
  for (const code of ['h("p", { class: "soft lead" })', '// "A comment"', 'import { a } from "./Some file.js"', 'x === "visible"', 'h("a", { rel: "noopener noreferrer" })', 't("message.read")', "/Sign out now/.test(x)"]) {
    assert.deepEqual(findLiterals(code).filter(isVisible), [], code);
  }
});

test("texts fill placeholders and choose plural forms", () => {
  const t = createTranslator(["en"]);
  assert.equal(t("conversation.waiting", { count: 1 }), "1 message is waiting to be sent");
  assert.equal(t("conversation.waiting", { count: 5_000 }), "5,000 messages are waiting to be sent");
  assert.equal(createTranslator(["de"])("conversation.waiting", { count: 5_000 }), "5.000 Nachrichten warten auf den Versand");
  assert.throws(() => t("conversation.waiting"), RangeError);
  assert.throws(() => t("no.such.key"), RangeError);
});

test("a page may bring other words and other languages", () => {
  const t = createTranslator(["pl"], { "composer.send": "Wyślij", "conversation.waiting": { one: "{count} czeka", few: "{count} czekają", many: "{count} czeka wiele", other: "{count} inne" } });
  assert.equal(t("composer.send"), "Wyślij");
  assert.equal(t("conversation.waiting", { count: 3 }), "3 czekają");
  assert.equal(t("message.read"), "Read", "what is missing is English");
});

test("a name of the other direction does not change the order of its sentence", () => {
  const t = createTranslator(["en"]);
  assert.equal(t("conversation.typing", { name: "Maria" }), "Maria is typing…");
  assert.equal(t("conversation.typing", { name: "דנה כהן" }), "\u2068דנה כהן\u2069 is typing…");
});

test("the first known language counts, and dates follow its locale", () => {
  assert.deepEqual(chooseLanguage(["fr", "de-AT", "en"]), { language: "de", locale: "de-AT" });
  assert.deepEqual(chooseLanguage(["fr"]), { language: "en", locale: undefined });
  const { t, dates, language } = createLanguage(["not a locale", "de-DE"]);
  assert.deepEqual([language, t("message.read"), dates.formatTime(new Date(2026, 0, 1, 9, 5).toISOString())], ["de", "Gelesen", "09:05"]);
});

test("times are in the viewer's time zone", () => {
  const at = "2026-11-30T23:30:00Z";
  process.env.TZ = "Asia/Tokyo";
  assert.equal(createLanguage(["en-GB"]).dates.formatTime(at), "08:30");
  process.env.TZ = "America/New_York";
  assert.equal(createLanguage(["en-GB"]).dates.formatTime(at), "18:30");
  delete process.env.TZ;
});
