// What this side has received and read, told to the server: collected for a moment, then until it is told.

import { isMarks } from "./response.js";
import { CancellableDelay } from "./clock.js";
import { toChatError } from "./errors.js";
import { RetryTimer } from "./retry-timer.js";

const BATCH_DELAY_MS = 50;
const MAX_IDS_PER_REQUEST = 500; // that one request may name

/** @typedef {"delivered" | "read"} Kind */
/** @typedef {{ id: string, delivered_at: string | null, read_at: string | null }} Marked */

/**
 * @typedef {object} Owner
 * @property {(marked: Marked[]) => void} onMarked The server's answers.
 * @property {(error: import("./errors.js").ChatError) => void} onWaiting It is tried again.
 * @property {() => void} onDone It is not tried again any more.
 */

export class ReceiptSender {
  #http;
  #batchDelay;
  #retry;
  #owner;
  /** @type {Map<string, Kind>} */
  #waiting = new Map();
  /** @type {Promise<void> | null} */
  #running = null;
  #closed = false;

  /**
   * @param {import("./chat.js").Context} context
   * @param {Owner} owner
   */
  constructor({ http, clock, random }, owner) {
    this.#http = http;
    this.#batchDelay = new CancellableDelay(clock);
    this.#retry = new RetryTimer({ clock, random }, { base: 500, cap: 30_000 });
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
  retryNow() {
    this.#retry.retryNow();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  shortenWait(hadFailed) {
    this.#retry.shortenWait(hadFailed);
  }

  /** What waits is told at once: whoever reads something and leaves has read it. But it is tried once only. */
  close() {
    this.#closed = true;
    this.#batchDelay.cancel();
    this.#retry.cancel();
  }

  reopen() {
    this.#closed = false;
  }

  async #run() {
    /** @type {unknown} */
    let refused = null;
    await this.#batchDelay.wait(BATCH_DELAY_MS);
    while (this.#waiting.size > 0) {
      const kind = [...this.#waiting.values()].includes("read") ? "read" : "delivered";
      const ids = [...this.#waiting].filter(([, its]) => its === kind).map(([id]) => id).slice(0, MAX_IDS_PER_REQUEST);
      try {
        const answer = await this.#http.put(`/chat/${kind}`, { message_ids: ids }, isMarks);
        this.#retry.reset();
        this.#owner.onDone();
        this.#removeWaiting(ids, kind);
        this.#owner.onMarked(answer.marked);
      } catch (thrown) {
        const error = toChatError(thrown, "network");
        if (!error.retryable && !error.isUnauthorized) {
          this.#owner.onDone();
          this.#removeWaiting(ids, kind);
          refused ??= error; // the others are told all the same
          continue;
        }
        if (this.#closed) {
          this.#owner.onDone();
          this.#waiting.clear();
          throw error;
        }
        this.#owner.onWaiting(error);
        await this.#retry.wait(error);
      }
    }
    if (refused) throw refused;
  }

  /** Not those that have been read since. @param {string[]} ids @param {Kind} kind */
  #removeWaiting(ids, kind) {
    for (const id of ids) if (this.#waiting.get(id) === kind) this.#waiting.delete(id);
  }
}
