// Texts that the participant began to write, one per conversation. They stay in memory, unless the page chose a store. A draft is health
// information: its key names its owner, so no other participant at the same computer sees it, and a stored draft expires.
//
// A store may be full, forbidden or missing. That never disturbs the page: the draft stays in memory, and the chat warns once.

import { ChatError, invalidArgument } from "./errors.js";
import { keyOf } from "./participants/participant.js";

const PREFIX = "ehr-chat:draft:";
const MAX_AGE_MS = 7 * 86_400_000;
const MAX_DRAFTS = 1_000; // in memory; the one that changed least recently leaves first

/** @typedef {import("./types.js").DraftStore} DraftStore */
/** @typedef {import("./types.js").Participant} Participant */

/**
 * @typedef {object} Owner
 * @property {(peer: Participant, draft: string) => void} onChange
 * @property {(error: ChatError) => void} onFailed The store failed. The drafts stay in memory.
 */

export class Drafts {
  /** @type {Owner} */
  owner = { onChange: () => {}, onFailed: () => {} };
  #store;
  #ownerPrefix;
  #location_id;
  #clock;
  /** @type {Map<string, string>} By key. The empty text is known to be no draft. */
  #texts = new Map();
  #hasFailed = false;
  #closed = false;

  /**
   * @param {DraftStore | null} store null keeps the drafts in memory alone.
   * @param {{ base: string, me: Participant, location_id: string, clock: import("./types.js").Clock }} scope
   */
  constructor(store, { base, me, location_id, clock }) {
    this.#store = store;
    this.#ownerPrefix = `${PREFIX}${[base, keyOf(me)].map(encodeURIComponent).join(":")}:`;
    this.#location_id = location_id;
    this.#clock = clock;
    this.#try((opened) => {
      for (const key of keysOf(opened, PREFIX)) if (this.#parse(opened.get(key)) === null) opened.remove(key);
    });
    this.#hasFailed = false; // the chat listens later, so the next failure warns
  }

  /** The draft for a participant; empty when there is none. @param {Participant} peer */
  get(peer) {
    const key = this.#keyOf(peer);
    const known = this.#texts.get(key);
    if (known !== undefined || this.#closed) return known ?? "";
    const stored = this.#try((store) => this.#parse(store.get(key))) ?? "";
    this.#remember(key, stored);
    return stored;
  }

  /** @param {Participant} peer @param {string} text The empty text removes the draft. */
  set(peer, text) {
    if (typeof text !== "string") throw invalidArgument("a draft is a string");
    if (this.#closed || text === this.get(peer)) return;
    const key = this.#keyOf(peer);
    this.#remember(key, text);
    this.#try((store) => {
      if (text === "") store.remove(key);
      else store.set(key, JSON.stringify({ text, saved_at: this.#clock.now() }));
    });
    this.owner.onChange(peer, text);
  }

  /** The text was sent. Another draft stays: a page may send without the field. @param {Participant} peer @param {string} text */
  removeSent(peer, text) {
    if (text.trim() === this.get(peer).trim()) this.set(peer, "");
  }

  /** Removes the drafts of this owner, in all locations, and takes no more. */
  removeAll() {
    this.#try((store) => { for (const key of keysOf(store, this.#ownerPrefix)) store.remove(key); });
    this.close();
  }

  /** Takes no more drafts. A view that closes late must not store what a sign-out removed. Stored drafts stay. */
  close() {
    this.#closed = true;
    this.#texts.clear();
  }

  /** @param {Participant} peer */
  #keyOf(peer) {
    return this.#ownerPrefix + [this.#location_id, keyOf(peer)].map(encodeURIComponent).join(":");
  }

  /** @param {string} key @param {string} text */
  #remember(key, text) {
    this.#texts.delete(key);
    if (text === "" && !this.#store) return; // without a store, a missing text says the same
    this.#texts.set(key, text);
    if (this.#texts.size <= MAX_DRAFTS) return;
    const empty = [...this.#texts].find(([, one]) => one === "")?.[0]; // it costs another look into the store, and no text
    this.#texts.delete(empty ?? String(this.#texts.keys().next().value));
  }

  /** The text of a stored draft; null when it is missing, expired or not ours. @param {string | null | undefined} stored */
  #parse(stored) {
    try {
      const { text, saved_at } = JSON.parse(stored ?? "null");
      const ageMs = this.#clock.now() - saved_at;
      return typeof text === "string" && Math.abs(ageMs) < MAX_AGE_MS ? text : null;
    } catch {
      return null;
    }
  }

  /** @template T @param {(store: DraftStore) => T} work @returns {T | null} */
  #try(work) {
    if (!this.#store) return null;
    try {
      const result = work(this.#store);
      this.#hasFailed = false;
      return result;
    } catch (error) {
      if (!this.#hasFailed) this.owner.onFailed(new ChatError("drafts cannot be stored; they are kept until the page closes", { code: "storage", cause: error }));
      this.#hasFailed = true;
      return null;
    }
  }
}

/**
 * The store that the page asks for.
 * @param {unknown} option
 * @returns {DraftStore | null}
 */
export function openDraftStore(option) {
  if (option === undefined || option === "memory") return null;
  if (option === "session") return webStore("sessionStorage");
  if (option === "local") return webStore("localStorage");
  const store = /** @type {any} */ (option);
  if (["get", "set", "remove", "keys"].every((name) => typeof store?.[name] === "function")) return store;
  throw invalidArgument("`drafts` is \"memory\", \"session\", \"local\", or a store with `get`, `set`, `remove` and `keys`");
}

/**
 * A storage of the browser. Each access may throw: the user can forbid it, and it can be full.
 * @param {"sessionStorage" | "localStorage"} name
 * @returns {DraftStore}
 */
function webStore(name) {
  return {
    get: (key) => globalThis[name].getItem(key),
    set: (key, text) => globalThis[name].setItem(key, text),
    remove: (key) => globalThis[name].removeItem(key),
    keys: () => Array.from({ length: globalThis[name].length }, (_, index) => String(globalThis[name].key(index))),
  };
}

/** A copy, because the caller removes keys. @param {DraftStore} store @param {string} prefix */
function keysOf(store, prefix) {
  return [...store.keys()].filter((key) => key.startsWith(prefix));
}
