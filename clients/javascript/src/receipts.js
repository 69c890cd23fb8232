// What this side has received and read, told to the server: collected for a moment, then until it is told.

import { isMarks } from "./answer.js";
import { Pause } from "./clock.js";
import { asChatError } from "./errors.js";
import { Retry } from "./retry.js";

const COLLECT_MS = 50;
const MOST_IDS = 500; // that one request may name

/** @typedef {"delivered" | "read"} Kind */
/** @typedef {{ id: string, delivered_at: string | null, read_at: string | null }} Marked */

/**
 * @typedef {object} Owner
 * @property {(marked: Marked[]) => void} marked The server's answers.
 * @property {(error: import("./errors.js").ChatError) => void} waiting It is tried again.
 * @property {() => void} over It is not tried again any more.
 */

export class Receipts {
  #http;
  #collect;
  #retry;
  #owner;
  /** @type {Map<string, Kind>} */
  #waiting = new Map();
  /** @type {Promise<void> | null} */
  #running = null;
  #closed = false;

  /**
   * @param {import("./client.js").Context} context
   * @param {Owner} owner
   */
  constructor({ http, clock, random }, owner) {
    this.#http = http;
    this.#collect = new Pause(clock);
    this.#retry = new Retry({ clock, random }, { base: 500, cap: 30_000 });
    this.#owner = owner;
  }

  /**
   * Resolves once the server has them; rejects when it will not take them.
   * @param {Kind} kind
   * @param {readonly string[]} ids
   * @returns {Promise<void>}
   */
  mark(kind, ids) {
    for (const id of ids) if (this.#waiting.get(id) !== "read") this.#waiting.set(id, kind);
    if (this.#waiting.size === 0) return Promise.resolve();
    if (!this.#running) {
      this.#running = this.#run().finally(() => { this.#running = null; });
      this.#running.catch(() => {}); // whoever wants to know has the promise
    }
    return this.#running;
  }

  /** Something has changed for the better. */
  hurry() {
    this.#retry.hurry();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  nudge(hadFailed) {
    this.#retry.nudge(hadFailed);
  }

  /** What waits is told at once: whoever reads something and leaves has read it. But it is tried once only. */
  close() {
    this.#closed = true;
    this.#collect.end();
    this.#retry.end();
  }

  reopen() {
    this.#closed = false;
  }

  async #run() {
    /** @type {unknown} */
    let refused = null;
    await this.#collect.wait(COLLECT_MS);
    while (this.#waiting.size > 0) {
      const kind = [...this.#waiting.values()].includes("read") ? "read" : "delivered";
      const ids = [...this.#waiting].filter(([, its]) => its === kind).map(([id]) => id).slice(0, MOST_IDS);
      try {
        const answer = await this.#http.put(`/chat/${kind}`, { message_ids: ids }, isMarks);
        this.#retry.succeeded();
        this.#owner.over();
        this.#forget(ids, kind);
        this.#owner.marked(answer.marked);
      } catch (thrown) {
        const error = asChatError(thrown, "network");
        if (!error.retryable && !error.isUnauthorized) {
          this.#owner.over();
          this.#forget(ids, kind);
          refused ??= error; // the others are told all the same
          continue;
        }
        if (this.#closed) {
          this.#owner.over();
          this.#waiting.clear();
          throw error;
        }
        this.#owner.waiting(error);
        await this.#retry.wait(error);
      }
    }
    if (refused) throw refused;
  }

  /** Not those that have been read since. @param {string[]} ids @param {Kind} kind */
  #forget(ids, kind) {
    for (const id of ids) if (this.#waiting.get(id) === kind) this.#waiting.delete(id);
  }
}
