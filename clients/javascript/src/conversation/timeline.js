// The messages of one conversation in display order: confirmed ones by `seq`, each once, then those on their way. It does no I/O.
//
// The server counts `seq` without gaps. So the confirmed messages are complete from `firstSeq` to the newest one, or the timeline
// knows the first one that is missing. It keeps at most 1,000 receipts of messages that it does not hold.

import { isSentBy, toMessage, withTimes } from "../message.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/** @typedef {import("../types.js").Participant} Participant */
/** @typedef {{ delivered_at?: string, read_at?: string }} Times */

const EARLY_RECEIPT_CAPACITY = 1_000;

export class Timeline {
  #me;
  /** @type {Message[]} By `seq`. */
  #confirmed = [];
  /** The `seq` from which on the timeline should be complete; 0 until it is known. */
  #firstSeq = 0;
  /** @type {Message[]} In the order of the calls of `send`. */
  #pending = [];
  /** @type {Map<string, Message>} */
  #byId = new Map();
  /** @type {Map<string, Times>} Receipts that arrived before their message. */
  #earlyReceipts = new Map();
  /** @type {readonly Message[] | null} */
  #snapshot = null;

  /** @param {Participant} me */
  constructor(me) {
    this.#me = me;
  }

  /** The same array until something changes. @returns {readonly Message[]} */
  get messages() {
    this.#snapshot ??= Object.freeze([...this.#confirmed, ...this.#pending]);
    return this.#snapshot;
  }

  /** The number of confirmed messages. */
  get size() {
    return this.#confirmed.length;
  }

  get firstSeq() {
    return this.#firstSeq;
  }

  /** `seq` of the newest confirmed message; 0 when there is none. */
  get lastSeq() {
    return this.#confirmed.at(-1)?.seq ?? 0;
  }

  /** `seq` of the oldest message that is missing although newer ones are here; or null. */
  get firstMissingSeq() {
    const firstSeq = this.#firstSeq || (this.#confirmed[0]?.seq ?? 1);
    if (this.lastSeq - firstSeq < this.size) return null;
    return firstSeq + this.#confirmed.findIndex((message, index) => message.seq !== firstSeq + index);
  }

  /**
   * The `seq` from which a refetch must load: the first message that is missing, new, or among the last `lookback` ones and unread.
   * @param {number} lookback
   */
  firstStaleSeq(lookback) {
    const unread = this.#confirmed.slice(Math.max(this.size - lookback, 0)).find((message) => message.read_at === null);
    return Math.min(this.firstMissingSeq ?? Infinity, unread?.seq ?? Infinity, Math.max(this.lastSeq + 1, this.#firstSeq));
  }

  /**
   * Takes a message of the server. The timeline does not keep one from before `firstSeq`: `loadOlder()` brings it later, together with
   * those between.
   * @param {ServerMessage} message
   * @returns {{ message: Message, isNew: boolean, confirms: boolean }} `confirms`: it was on its way.
   */
  merge(message) {
    const existing = this.#byId.get(message.id);
    const earlyTimes = this.#earlyReceipts.get(message.id);
    this.#earlyReceipts.delete(message.id);
    const shown = toMessage(message, this.#me);
    const pendingIndex = shown.mine && message.client_message_id ? this.#findPending(message.client_message_id) : -1;
    const merged = withTimes({ ...shown, key: existing?.key ?? shown.key }, existing ?? {}, earlyTimes ?? {}, message);
    const confirms = pendingIndex >= 0;
    if (confirms) this.#pending.splice(pendingIndex, 1);
    if (existing && hasSameTimes(existing, merged) && !confirms) return { message: existing, isNew: false, confirms };
    const isKept = message.seq >= this.#firstSeq;
    if (isKept) this.#insert(merged);
    else this.#snapshot = null;
    return { message: merged, isNew: isKept && !existing, confirms };
  }

  /**
   * The peer received or read these messages.
   * @param {readonly string[]} ids
   * @param {Times} times
   * @returns {Message[]} The messages that changed.
   */
  applyReceipt(ids, times) {
    const changed = [];
    for (const id of ids) {
      const existing = this.#byId.get(id);
      if (!existing) {
        this.#keepEarlyReceipt(id, times);
        continue;
      }
      const merged = withTimes(existing, existing, times);
      if (hasSameTimes(existing, merged)) continue;
      this.#insert(merged);
      changed.push(merged);
    }
    return changed;
  }

  /** Adds a message that is on its way. @param {string} client_message_id @param {string} content @param {string} sent_at */
  addPending(client_message_id, content, sent_at) {
    /** @type {Message} */
    const message = Object.freeze({
      key: client_message_id, id: null, seq: null, mine: true, status: "sending", error: null, content, client_message_id,
      sent_at, delivered_at: null, read_at: null,
    });
    this.#pending.push(message);
    this.#snapshot = null;
    return message;
  }

  /**
   * Marks a message on its way as failed (`error`), or as sending again (null). The latter moves it behind the other waiting ones.
   * @param {string} client_message_id
   * @param {import("../errors.js").ChatError | null} error
   */
  setSendError(client_message_id, error) {
    const index = this.#findPending(client_message_id);
    if (index < 0) return;
    const [message] = this.#pending.splice(index, 1);
    /** @type {Message} */
    const changed = Object.freeze({ ...message, error, status: error ? "failed" : "sending" });
    if (error) this.#pending.splice(index, 0, changed);
    else this.#pending.push(changed);
    this.#snapshot = null;
  }

  /** Removes a message that is on its way. @param {string} client_message_id */
  removePending(client_message_id) {
    const index = this.#findPending(client_message_id);
    if (index >= 0) this.#pending.splice(index, 1);
    this.#snapshot = null;
  }

  /** The timeline should be complete from this `seq` on. It drops older messages. @param {number} seq */
  startAt(seq) {
    this.#firstSeq = seq;
    this.#dropOldest(this.#confirmed.filter((message) => Number(message.seq) < seq).length);
  }

  /** Drops the oldest messages until `max` are left. @param {number} max @returns {boolean} Whether it dropped any. */
  trim(max) {
    if (this.size <= max) return false;
    this.#dropOldest(this.size - max);
    this.#firstSeq = Number(this.#confirmed[0].seq);
    return true;
  }

  /** The received messages that this side has not read. @returns {Message[]} */
  unread() {
    return this.#confirmed.filter((message) => !message.mine && message.read_at === null);
  }

  /** Whether this side sent the message. @param {ServerMessage} message */
  isMine(message) {
    return isSentBy(this.#me, message);
  }

  /** @param {string} id @param {Times} times */
  #keepEarlyReceipt(id, times) {
    this.#earlyReceipts.set(id, { ...this.#earlyReceipts.get(id), ...times });
    if (this.#earlyReceipts.size > EARLY_RECEIPT_CAPACITY) this.#earlyReceipts.delete(String(this.#earlyReceipts.keys().next().value));
  }

  /** @param {number} count */
  #dropOldest(count) {
    for (const message of this.#confirmed.splice(0, count)) this.#byId.delete(String(message.id));
    this.#snapshot = null;
  }

  /** @param {string} client_message_id */
  #findPending(client_message_id) {
    const id = client_message_id.toLowerCase(); // the server writes UUIDs in lower case
    return this.#pending.findIndex((message) => message.client_message_id === id);
  }

  /** Inserts by binary search, or replaces the message with this `seq`. @param {Message} message */
  #insert(message) {
    const seq = Number(message.seq);
    let low = 0;
    let high = this.size;
    if (seq > this.lastSeq) low = high; // the usual case
    while (low < high) {
      const middle = (low + high) >> 1;
      if (Number(this.#confirmed[middle].seq) < seq) low = middle + 1;
      else high = middle;
    }
    this.#confirmed.splice(low, this.#confirmed[low]?.seq === seq ? 1 : 0, message);
    this.#byId.set(String(message.id), message);
    this.#snapshot = null;
  }
}

/** @param {Message} a @param {Message} b */
function hasSameTimes(a, b) {
  return a.seq === b.seq && a.delivered_at === b.delivered_at && a.read_at === b.read_at;
}
