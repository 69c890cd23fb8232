// Sends receipts of this side: which messages it received or read. It collects them for 50 ms, and retries until the server stores
// them. One request names at most 500 messages.

import { toChatError } from "../errors.js";
import { isMarks } from "../http/shapes.js";
import { ReportedRetry } from "../retry/reported-retry.js";
import { CancellableDelay } from "../time/cancellable-delay.js";

const BATCH_DELAY_MS = 50;
const MAX_IDS_PER_REQUEST = 500;

/** @typedef {"delivered" | "read"} Kind */
/** @typedef {{ id: string, delivered_at: string | null, read_at: string | null }} Marked */

/** @typedef {{ onMarked: (marked: Marked[]) => void } & import("../retry/reported-retry.js").Owner} Owner `onMarked`: what the server stored. */

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
   * @param {import("../context.js").Context} context
   * @param {Owner} owner
   */
  constructor({ http, clock, random }, owner) {
    this.#http = http;
    this.#batchDelay = new CancellableDelay(clock);
    this.#retry = new ReportedRetry({ clock, random }, { base: 500, cap: 30_000 }, owner);
    this.#owner = owner;
  }

  /**
   * Resolves when the server has stored the receipts. Rejects when the server refuses them.
   * @param {Kind} kind
   * @param {readonly string[]} ids
   * @returns {Promise<void>}
   */
  mark(kind, ids) {
    for (const id of ids) if (this.#waiting.get(id) !== "read") this.#waiting.set(id, kind);
    if (this.#waiting.size === 0) return Promise.resolve();
    if (!this.#running) {
      this.#running = this.#run();
      this.#running.catch(() => {}); // a caller that needs the outcome has the promise
    }
    return this.#running;
  }

  /** The network, the page or a token is back. @param {boolean} [isForced] */
  retryNow(isForced) {
    this.#retry.retryNow(isForced);
  }

  /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
  shortenWait(hadFailed) {
    this.#retry.shortenWait(hadFailed);
  }

  /** Sends the waiting receipts at once: a reader who leaves has read them. This is the last attempt. */
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
    let refusal = null;
    await this.#batchDelay.wait(BATCH_DELAY_MS);
    while (this.#waiting.size > 0) {
      const { kind, ids } = this.#nextBatch();
      try {
        const { marked } = await this.#http.put(`/chat/${kind}`, { message_ids: ids }, isMarks);
        this.#retry.succeed();
        this.#removeWaiting(ids, kind);
        this.#owner.onMarked(marked);
      } catch (thrown) {
        const error = toChatError(thrown, "network");
        if (!ReportedRetry.isWorthwhile(error)) {
          this.#retry.stop();
          this.#removeWaiting(ids, kind);
          refusal ??= error; // the other receipts still go out
          continue;
        }
        if (this.#closed) {
          this.#retry.stop();
          this.#waiting.clear();
          this.#running = null;
          throw error;
        }
        await this.#retry.wait(error);
      }
    }
    this.#running = null; // in the same step as the last look at what waits, so that a later `mark` begins another run
    if (refusal) throw refusal;
  }

  #nextBatch() {
    /** @type {Kind} */
    const kind = [...this.#waiting.values()].includes("read") ? "read" : "delivered";
    const ids = [...this.#waiting].filter(([, waitingKind]) => waitingKind === kind).map(([id]) => id).slice(0, MAX_IDS_PER_REQUEST);
    return { kind, ids };
  }

  /** Keeps messages that were read during the request. @param {string[]} ids @param {Kind} kind */
  #removeWaiting(ids, kind) {
    for (const id of ids) if (this.#waiting.get(id) === kind) this.#waiting.delete(id);
  }
}
