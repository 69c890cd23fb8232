// Names, birth dates and record numbers, as the page's `resolve` gives them. The chat itself knows identifiers only. Each person is
// asked for once; after a failure, or without an answer, the identifier is shown, and the next use after a while asks again.

import { idOfPerson, keyOfPerson } from "./person-key.js";

/** @typedef {import("ehr-chat-client").Participant} Participant */
/** @typedef {{ name?: string, about?: string, birth_date?: string, record_number?: string }} Person `birth_date`: `YYYY-MM-DD`. */
/** @typedef {(person: Participant) => Person | null | undefined | Promise<Person | null | undefined>} Resolve */

/**
 * What to show of a person. `details` names what tells people of the same name apart; it is empty for an unknown person, whose `name` is
 * the identifier.
 * @typedef {{ name: string, about: string, born: string, record: string, details: string }} Description
 */

/** @typedef {{ key: string, person: Participant, answer: Person | null, askAgainAt: number }} Entry */

const RETRY_AFTER_MS = 30_000; // after a failure; an attempt without an answer counts as failed then
const CAPACITY = 5_000;

export class PeopleDirectory {
  #resolve;
  #language;
  #now;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** Keys of known people, by what a reader sees of them. @type {Map<string, Set<string>>} */
  #lookalikes = new Map();
  /** @type {Set<() => void>} */
  #listeners = new Set();
  #isChangeScheduled = false;

  /**
   * @param {Resolve | null} resolve
   * @param {{ language: { t: import("../strings/index.js").Translate, dates: import("../strings/dates.js").Dates }, now?: () => number }} options
   */
  constructor(resolve, { language, now = Date.now }) {
    this.#resolve = resolve;
    this.#language = language;
    this.#now = now;
  }

  /**
   * Calls `listener` when an answer arrives, until the caller calls the returned function.
   * @param {"change"} _name
   * @param {() => void} listener
   */
  on(_name, listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** What is known of a person now. @param {Participant} person @returns {Description} */
  get(person) {
    const entry = this.#getEntry(person);
    if (!entry.answer && this.#resolve && this.#now() >= entry.askAgainAt) this.#load(entry);
    return this.#describe(entry);
  }

  /** @param {Participant} person */
  #getEntry(person) {
    const key = keyOfPerson(person);
    let entry = this.#entries.get(key);
    if (!entry) {
      entry = { key, person, answer: null, askAgainAt: 0 };
      this.#entries.set(key, entry);
      if (this.#entries.size > CAPACITY) this.#forgetOldest();
    }
    return entry;
  }

  #forgetOldest() {
    const [key, entry] = /** @type {[string, Entry]} */ (this.#entries.entries().next().value);
    this.#entries.delete(key);
    if (!entry.answer) return;
    const appearance = this.#appearance(entry.answer);
    const same = this.#lookalikes.get(appearance);
    same?.delete(key);
    if (same?.size === 0) this.#lookalikes.delete(appearance);
  }

  /** @param {Entry} entry */
  #load(entry) {
    entry.askAgainAt = this.#now() + RETRY_AFTER_MS;
    let answer;
    try {
      answer = this.#resolve?.(entry.person);
    } catch {
      return this.#fail(entry);
    }
    if (!(answer instanceof Object && "then" in answer)) return this.#take(entry, answer);
    Promise.resolve(answer).then((late) => { this.#take(entry, late); this.#scheduleChange(); }, () => this.#fail(entry));
  }

  /** @param {Entry} entry */
  #fail(entry) {
    entry.askAgainAt = this.#now() + RETRY_AFTER_MS;
  }

  /** @param {Entry} entry @param {unknown} answer */
  #take(entry, answer) {
    if (this.#entries.get(entry.key) !== entry || entry.answer) return; // forgotten, or a second attempt was faster
    if (!(answer instanceof Object)) return this.#fail(entry);
    entry.answer = clean(/** @type {Record<string, unknown>} */ (answer));
    const appearance = this.#appearance(entry.answer);
    const same = this.#lookalikes.get(appearance) ?? new Set();
    this.#lookalikes.set(appearance, same.add(entry.key));
    if (same.size > 1) this.#scheduleChange(); // the others now need their identifiers
  }

  /** What a reader sees. @param {Person} answer */
  #appearance({ name, about, birth_date, record_number }) {
    return [name, about, birth_date, record_number].join("\n");
  }

  /** @param {Entry} entry @returns {Description} */
  #describe({ person, answer }) {
    const { t, dates } = this.#language;
    const id = idOfPerson(person);
    const about = answer?.about || t(person.user_id !== undefined ? "person.staff" : "person.patient");
    const born = answer?.birth_date ? t("person.born", { date: dates.formatBirthDate(answer.birth_date) }) : "";
    const record = answer?.record_number ? t("person.record", { number: answer.record_number }) : "";
    const name = answer?.name || id;
    const isAmbiguous = answer !== null && (this.#lookalikes.get(this.#appearance(answer))?.size ?? 0) > 1;
    const isPatientWithoutDetails = person.contact_id !== undefined && born === "" && record === "";
    const identifier = name !== id && (isAmbiguous || isPatientWithoutDetails) ? t("person.identifier", { id }) : "";
    return { name, about, born, record, details: [born, record, identifier].filter(Boolean).join(" · ") };
  }

  #scheduleChange() {
    if (this.#isChangeScheduled) return;
    this.#isChangeScheduled = true;
    queueMicrotask(() => {
      this.#isChangeScheduled = false;
      for (const listener of [...this.#listeners]) listener();
    });
  }
}

/** Texts only: the page's answer may come from a database with numbers and nulls. @param {Record<string, unknown>} answer @returns {Person} */
function clean(answer) {
  /** @param {string} name */
  const text = (name) => (typeof answer[name] === "string" || typeof answer[name] === "number" ? String(answer[name]).trim() : "");
  return { name: text("name"), about: text("about"), birth_date: text("birth_date"), record_number: text("record_number") };
}
