// What this side has received and read, told to the server: collected for a moment, then until it is told.

import { Backoff } from "./backoff.js";
import { Pause } from "./clock.js";
import { asChatError } from "./errors.js";

const COLLECT_MS = 50;
const MOST_IDS = 500; // that one request may name

/** @typedef {"delivered" | "read"} Kind */
/** @typedef {{ id: string, delivered_at: string | null, read_at: string | null }} Marked */

export class Receipts {
  #http;
  #backoff;
  #pause;
  #marked;
  /** @type {Map<string, Kind>} */
  #waiting = new Map();
  /** @type {Promise<void> | null} */
  #running = null;
  #closed = false;

  /**
   * @param {import("./client.js").Context} context
   * @param {(marked: Marked[]) => void} marked The server's answers.
   */
  constructor({ http, clock, random }, marked) {
    this.#http = http;
    this.#backoff = new Backoff(random, { base: 500, cap: 30_000 });
    this.#pause = new Pause(clock);
    this.#marked = marked;
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

  hurry() {
    this.#pause.end();
  }

  /** What waits is told at once: whoever reads something and leaves has read it. But it is tried once only. */
  close() {
    this.#closed = true;
    this.#pause.end();
  }

  reopen() {
    this.#closed = false;
  }

  async #run() {
    await this.#pause.wait(COLLECT_MS);
    while (this.#waiting.size > 0) {
      const kind = [...this.#waiting.values()].includes("read") ? "read" : "delivered";
      const ids = [...this.#waiting].filter(([, its]) => its === kind).map(([id]) => id).slice(0, MOST_IDS);
      try {
        const answer = await this.#http.put(`/chat/${kind}`, { message_ids: ids });
        this.#backoff.reset();
        this.#forget(ids, kind);
        this.#marked(answer.marked);
      } catch (thrown) {
        const error = asChatError(thrown, "network");
        if (!error.retryable && error.status !== 401) {
          this.#forget(ids, kind);
          throw error;
        }
        if (this.#closed) {
          this.#waiting.clear();
          throw error;
        }
        await this.#pause.wait(this.#backoff.next(error.retryAfter));
      }
    }
  }

  /** Not those that have been read since. @param {string[]} ids @param {Kind} kind */
  #forget(ids, kind) {
    for (const id of ids) if (this.#waiting.get(id) === kind) this.#waiting.delete(id);
  }
}
