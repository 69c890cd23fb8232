// Messages on their way to the server, in the order of their calls of `send`. The outbox posts one at a time, so the order holds. It
// retries each message until the server stores or rejects it. The `client_message_id` stays the same, so retries create one message.
//
// It holds at most 500 messages. They stay in memory: their content is health information and must not reach the disk of a shared
// computer.

import { ChatError, toChatError } from "../errors.js";
import { ReportedRetry } from "../retry/reported-retry.js";

const DEFAULT_CAPACITY = 500;

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").ServerMessage} ServerMessage */

/**
 * @typedef {object} Entry
 * @property {string} client_message_id
 * @property {object} body
 * @property {(outcome: Message | ChatError) => void} settle Called once, with the stored message or the final error.
 * @property {boolean} [mayBeStored] At least one attempt ended without proof that the server did not store the message.
 */

/**
 * @typedef {object} OutboxOwner
 * @property {(body: object) => Promise<ServerMessage>} post
 * @property {(message: ServerMessage) => Message} onSent The server stored it. Returns the message as the conversation shows it.
 * @property {(entry: Entry, error: ChatError) => void} onFailed The server rejected it. There is no retry.
 */

/** @typedef {OutboxOwner & import("../retry/reported-retry.js").Owner} Owner */

export class Outbox {
  #owner;
  #capacity;
  #retry;
  /** @type {ChatError | null} Why the first message waits for a retry. */
  #lastError = null;
  /** @type {Entry[]} The first one is in progress. */
  #queue = [];
  #running = false;
  #closed = false;

  /**
   * @param {Owner} owner
   * @param {{ clock: import("../types.js").Clock, random: () => number }} context
   * @param {number} [capacity]
   */
  constructor(owner, { clock, random }, capacity = DEFAULT_CAPACITY) {
    this.#owner = owner;
    this.#capacity = capacity;
    this.#retry = new ReportedRetry({ clock, random }, { base: 500, cap: 15_000 }, owner);
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

  /** A frame or a page shows that the server stored the message. @param {Message} message */
  confirm(message) {
    const isFirst = this.#queue[0]?.client_message_id === message.client_message_id;
    this.#remove(message.client_message_id)?.settle(message);
    if (isFirst) this.#retry.cancel();
  }

  /**
   * Removes a message that is not in progress and that no attempt can have stored. Without this, a firewall that dislikes one word
   * would block all messages behind it.
   * @param {string} client_message_id
   * @returns {boolean}
   */
  discard(client_message_id) {
    const first = this.#queue[0];
    const isFirst = first?.client_message_id === client_message_id;
    if (isFirst && (first.mayBeStored || this.#lastError === null)) return false;
    const entry = this.#remove(client_message_id);
    entry?.settle(new ChatError("the message was discarded", { code: "discarded" }));
    if (isFirst) this.#retry.cancel();
    return entry !== null;
  }

  /** The network, the page or a token is back. @param {boolean} [isForced] */
  retryNow(isForced) {
    this.#retry.retryNow(isForced);
  }

  /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
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
        this.#retry.succeed();
        if (this.#closed) return;
        // `onSent` confirms the entry. The second removal makes sure that the outbox never posts it again.
        const shown = this.#owner.onSent(message);
        this.#remove(entry.client_message_id)?.settle(shown);
      } catch (thrown) {
        if (this.#queue[0] !== entry) continue; // confirmed or discarded during the attempt
        await this.#handleFailure(entry, toChatError(thrown, "network"));
      }
    }
    this.#running = false;
    this.#retry.stop();
  }

  /** @param {Entry} entry @param {ChatError} error */
  async #handleFailure(entry, error) {
    entry.mayBeStored ||= !isRejectedForCertain(error); // a later refusal says nothing about an earlier attempt
    if (ReportedRetry.isWorthwhile(error)) {
      this.#lastError = error;
      await this.#retry.wait(error);
      this.#lastError = null;
    } else {
      this.#remove(entry.client_message_id);
      this.#owner.onFailed(entry, error);
      entry.settle(error);
    }
  }

  /** @param {string | null} client_message_id @returns {Entry | null} */
  #remove(client_message_id) {
    const index = this.#queue.findIndex((entry) => entry.client_message_id === client_message_id);
    return index < 0 ? null : this.#queue.splice(index, 1)[0];
  }
}

// A proxy sends these when it stops waiting. It may have passed the request on.
const AMBIGUOUS_STATUSES = [408, 499];

/**
 * Whether the server certainly did not store the message at this attempt: a 4xx refused it, or there was no token to ask with.
 * @param {ChatError} error
 */
function isRejectedForCertain({ status, code }) {
  return status === 0 ? code === "token" : status >= 400 && status < 500 && !AMBIGUOUS_STATUSES.includes(status);
}
