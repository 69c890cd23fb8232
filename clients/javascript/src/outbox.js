// What is on its way to the server, in the order it was written: one at a time, so that the order holds, and each until
// the server has it or will not take it. The same `client_message_id` every time, so that it becomes one message.
// Kept in memory only: what somebody writes is health information, and does not belong on a shared computer's disk.

import { asChatError, ChatError } from "./errors.js";
import { Retry } from "./retry.js";

/** @typedef {import("./types.js").Message} Message */

/**
 * @typedef {object} Entry
 * @property {string} client_message_id
 * @property {object} body
 * @property {(outcome: Message | ChatError) => void} settle Called once: it is with the server, or is not going to be.
 * @property {boolean} [mayBeThere] The server may have it: at least one try ended without an answer that rules it out.
 */

/**
 * @typedef {object} Owner
 * @property {(body: object) => Promise<import("./types.js").ServerMessage>} post
 * @property {(message: import("./types.js").ServerMessage) => Message} sent The server's answer; returns it as it is shown.
 * @property {(entry: Entry, error: ChatError) => void} failed It will not be tried again.
 * @property {(error: ChatError) => void} waiting It will be.
 * @property {() => void} moving Nothing waits for another try any more.
 */

export class Outbox {
  #owner;
  #most;
  #retry;
  /** @type {ChatError | null} Why the first one waits. */
  #obstacle = null;
  /** @type {Entry[]} The first one is under way. */
  #queue = [];
  #running = false;
  #closed = false;

  /**
   * @param {Owner} owner
   * @param {{ clock: import("./types.js").Clock, random: () => number }} context
   * @param {number} [most]
   */
  constructor(owner, { clock, random }, most = 500) {
    this.#owner = owner;
    this.#most = most;
    this.#retry = new Retry({ clock, random }, { base: 500, cap: 15_000 });
  }

  get size() {
    return this.#queue.length;
  }

  get full() {
    return this.#queue.length >= this.#most;
  }

  /** @param {Entry} entry */
  add(entry) {
    this.#queue.push(entry);
    if (!this.#running) void this.#run();
  }

  /** The server has it, as another way has told. @param {Message} message */
  confirm(message) {
    const under_way = this.#queue[0]?.client_message_id === message.client_message_id;
    this.#take(message.client_message_id)?.settle(message);
    if (under_way) this.#retry.end();
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
    if (isFirst && (first.mayBeThere || this.#obstacle === null)) return false; // the server has it, or may have it soon
    const entry = this.#take(client_message_id);
    entry?.settle(new ChatError("the message was discarded", { code: "discarded" }));
    if (isFirst) this.#retry.end();
    return entry !== null;
  }

  /** Something has changed for the better. */
  hurry() {
    this.#retry.hurry();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  nudge(hadFailed) {
    this.#retry.nudge(hadFailed);
  }

  close() {
    this.#closed = true;
    this.#retry.end();
    for (const entry of this.#queue.splice(0)) entry.settle(new ChatError("the chat was closed", { code: "closed" }));
  }

  async #run() {
    this.#running = true;
    while (this.#queue.length > 0) {
      const entry = this.#queue[0];
      try {
        const message = await this.#owner.post(entry.body);
        this.#retry.succeeded();
        this.#owner.moving();
        if (this.#closed) return;
        const shown = this.#owner.sent(message); // which confirms it; should it not, it must still not be posted for ever
        this.#take(entry.client_message_id)?.settle(shown);
      } catch (thrown) {
        if (this.#queue[0] !== entry) continue; // confirmed meanwhile
        const error = asChatError(thrown, "network");
        entry.mayBeThere ||= !isStopped(error); // of all tries: a later refusal says nothing about an earlier one
        if (error.retryable || error.isUnauthorized) { // a token may come
          this.#obstacle = error;
          this.#owner.waiting(error);
          await this.#retry.wait(error);
          this.#obstacle = null;
        } else {
          this.#take(entry.client_message_id);
          this.#owner.failed(entry, error);
          entry.settle(error);
        }
      }
    }
    this.#running = false;
    this.#owner.moving();
  }

  /** @param {string | null} client_message_id @returns {Entry | null} */
  #take(client_message_id) {
    const at = this.#queue.findIndex((entry) => entry.client_message_id === client_message_id);
    return at < 0 ? null : this.#queue.splice(at, 1)[0];
  }
}

// A proxy answers with these when it did not wait any longer: it may have passed the request on.
const CUT_SHORT = [408, 499];

/**
 * Whether the server certainly did not take the message at this try: it, or something in front of it, refused the request, or
 * there was no token to ask with.
 * @param {ChatError} error
 */
function isStopped({ status, code }) {
  return status === 0 ? code === "token" : status >= 400 && status < 500 && !CUT_SHORT.includes(status);
}
