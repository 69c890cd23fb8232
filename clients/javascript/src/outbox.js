// What is on its way to the server, in the order it was written: one at a time, so that the order holds, and each until
// the server has it or will not take it. The same `client_message_id` every time, so that it becomes one message.
// Kept in memory only: what somebody writes is health information, and does not belong on a shared computer's disk.

import { toChatError, ChatError } from "./errors.js";
import { RetryTimer } from "./retry-timer.js";

/** @typedef {import("./types.js").Message} Message */

/**
 * @typedef {object} Entry
 * @property {string} client_message_id
 * @property {object} body
 * @property {(outcome: Message | ChatError) => void} settle Called once: it is with the server, or is not going to be.
 * @property {boolean} [mayBeStored] The server may have it: at least one try ended without an answer that rules it out.
 */

/**
 * @typedef {object} Owner
 * @property {(body: object) => Promise<import("./types.js").ServerMessage>} post
 * @property {(message: import("./types.js").ServerMessage) => Message} onSent The server's answer; returns it as it is shown.
 * @property {(entry: Entry, error: ChatError) => void} onFailed It will not be tried again.
 * @property {(error: ChatError) => void} onWaiting It will be.
 * @property {() => void} onIdle Nothing waits for another try any more.
 */

export class Outbox {
  #owner;
  #capacity;
  #retry;
  /** @type {ChatError | null} Why the first one waits. */
  #lastError = null;
  /** @type {Entry[]} The first one is under way. */
  #queue = [];
  #running = false;
  #closed = false;

  /**
   * @param {Owner} owner
   * @param {{ clock: import("./types.js").Clock, random: () => number }} context
   * @param {number} [capacity]
   */
  constructor(owner, { clock, random }, capacity = 500) {
    this.#owner = owner;
    this.#capacity = capacity;
    this.#retry = new RetryTimer({ clock, random }, { base: 500, cap: 15_000 });
  }

  get size() {
    return this.#queue.length;
  }

  get isFull() {
    return this.#queue.length >= this.#capacity;
  }

  /** @param {Entry} entry */
  add(entry) {
    this.#queue.push(entry);
    if (!this.#running) void this.#run();
  }

  /** The server has it, as another way has told. @param {Message} message */
  confirm(message) {
    const isFirst = this.#queue[0]?.client_message_id === message.client_message_id;
    this.#remove(message.client_message_id)?.settle(message);
    if (isFirst) this.#retry.cancel();
  }

  /**
   * Takes back one that is not under way and that no try can have brought to the server. A firewall that dislikes a word
   * would otherwise hold up all behind it.
   * @param {string} client_message_id
   * @returns {boolean}
   */
  discard(client_message_id) {
    const first = this.#queue[0];
    const isFirst = first?.client_message_id === client_message_id;
    if (isFirst && (first.mayBeStored || this.#lastError === null)) return false; // the server has it, or may have it soon
    const entry = this.#remove(client_message_id);
    entry?.settle(new ChatError("the message was discarded", { code: "discarded" }));
    if (isFirst) this.#retry.cancel();
    return entry !== null;
  }

  /** Something has changed for the better. */
  retryNow() {
    this.#retry.retryNow();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  shortenWait(hadFailed) {
    this.#retry.shortenWait(hadFailed);
  }

  close() {
    this.#closed = true;
    this.#retry.cancel();
    for (const entry of this.#queue.splice(0)) entry.settle(new ChatError("the chat was closed", { code: "closed" }));
  }

  async #run() {
    this.#running = true;
    while (this.#queue.length > 0) {
      const entry = this.#queue[0];
      try {
        const message = await this.#owner.post(entry.body);
        this.#retry.reset();
        this.#owner.onIdle();
        if (this.#closed) return;
        const shown = this.#owner.onSent(message); // which confirms it; should it not, it must still not be posted for ever
        this.#remove(entry.client_message_id)?.settle(shown);
      } catch (thrown) {
        if (this.#queue[0] !== entry) continue; // confirmed meanwhile
        const error = toChatError(thrown, "network");
        entry.mayBeStored ||= !isRejectedForCertain(error); // of all tries: a later refusal says nothing about an earlier one
        if (error.retryable || error.isUnauthorized) { // a token may come
          this.#lastError = error;
          this.#owner.onWaiting(error);
          await this.#retry.wait(error);
          this.#lastError = null;
        } else {
          this.#remove(entry.client_message_id);
          this.#owner.onFailed(entry, error);
          entry.settle(error);
        }
      }
    }
    this.#running = false;
    this.#owner.onIdle();
  }

  /** @param {string | null} client_message_id @returns {Entry | null} */
  #remove(client_message_id) {
    const at = this.#queue.findIndex((entry) => entry.client_message_id === client_message_id);
    return at < 0 ? null : this.#queue.splice(at, 1)[0];
  }
}

// A proxy answers with these when it did not wait any longer: it may have passed the request on.
const AMBIGUOUS_STATUSES = [408, 499];

/**
 * Whether the server certainly did not take the message at this try: it, or something in front of it, refused the request, or
 * there was no token to ask with.
 * @param {ChatError} error
 */
function isRejectedForCertain({ status, code }) {
  return status === 0 ? code === "token" : status >= 400 && status < 500 && !AMBIGUOUS_STATUSES.includes(status);
}
