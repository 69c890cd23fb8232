// The messages of one conversation, as they are to be shown: confirmed ones by `seq`, each once, then those on their
// way. What is confirmed is one unbroken stretch from where it begins up to the newest, or what is missing of it is known:
// the server counts `seq` without gaps. It asks nobody anything.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").ServerMessage} ServerMessage */
/** @typedef {import("./types.js").Participant} Participant */
/** @typedef {{ delivered_at?: string, read_at?: string }} Times */

const EARLY_RECEIPT_CAPACITY = 1_000; // of messages that are not here (yet)

export class Timeline {
  #me;
  /** @type {Message[]} By `seq`. */
  #confirmed = [];
  /** `seq` at which the stretch begins, whether that message is here or was missed; 0 as long as nobody has said. */
  #firstSeq = 0;
  /** @type {Message[]} In the order they were written. */
  #pending = [];
  /** @type {Map<string, Message>} */
  #byId = new Map();
  /** @type {Map<string, Times>} */
  #earlyReceipts = new Map();
  /** @type {readonly Message[] | null} */
  #snapshot = null;

  /** @param {Participant} me */
  constructor(me) {
    this.#me = me;
  }

  /** What to show. The same array until something changes. @returns {readonly Message[]} */
  get messages() {
    this.#snapshot ??= Object.freeze([...this.#confirmed, ...this.#pending]);
    return this.#snapshot;
  }

  get size() {
    return this.#confirmed.length;
  }

  get firstSeq() {
    return this.#firstSeq;
  }

  /** `seq` of the newest that the server has confirmed; 0 when there is none. */
  get lastSeq() {
    return this.#confirmed.at(-1)?.seq ?? 0;
  }

  /** `seq` of the oldest one that is not here, though newer ones are; or null. */
  get firstMissingSeq() {
    const begin = this.#firstSeq || (this.#confirmed[0]?.seq ?? 1);
    if (this.lastSeq - begin < this.size) return null;
    return begin + this.#confirmed.findIndex((message, index) => message.seq !== begin + index);
  }

  /**
   * The `seq` to load from so that nothing is missed, receipts of the last `lookback` messages included.
   * @param {number} lookback
   */
  firstStaleSeq(lookback) {
    const unread = this.#confirmed.slice(Math.max(this.size - lookback, 0)).find((message) => message.read_at === null);
    return Math.min(this.firstMissingSeq ?? Infinity, unread?.seq ?? Infinity, Math.max(this.lastSeq + 1, this.#firstSeq));
  }

  /**
   * Takes what the server says of a message. One from before the stretch is not kept: `loadOlder()` brings it, with those between.
   * @param {ServerMessage} message
   * @returns {{ message: Message, isNew: boolean, confirms: boolean }} `confirms`: it was on its way.
   */
  merge(message) {
    const existing = this.#byId.get(message.id);
    const earlyTimes = this.#earlyReceipts.get(message.id);
    this.#earlyReceipts.delete(message.id);
    const mine = this.#me.user_id !== undefined
      ? message.sender_user_id === this.#me.user_id : message.sender_contact_id === this.#me.contact_id;
    const pendingIndex = mine && message.client_message_id ? this.#findPending(message.client_message_id) : -1;
    const merged = withTimes({
      key: existing?.key ?? ((mine && message.client_message_id) || message.id),
      id: message.id, seq: message.seq, mine, status: "sent", error: null, content: message.content,
      client_message_id: message.client_message_id ?? null, sent_at: message.sent_at, delivered_at: null, read_at: null,
    }, existing ?? {}, earlyTimes ?? {}, message);
    const confirms = pendingIndex >= 0;
    if (confirms) this.#pending.splice(pendingIndex, 1);
    if (existing && hasSameTimes(existing, merged) && !confirms) return { message: existing, isNew: false, confirms };
    const isKept = message.seq >= this.#firstSeq;
    if (isKept) this.#insert(merged);
    else this.#snapshot = null;
    return { message: merged, isNew: isKept && !existing, confirms };
  }

  /**
   * The other side has, or has read, these.
   * @param {readonly string[]} ids
   * @param {Times} times
   * @returns {Message[]} Those that changed by it.
   */
  applyReceipt(ids, times) {
    const changed = [];
    for (const id of ids) {
      const existing = this.#byId.get(id);
      if (!existing) {
        this.#earlyReceipts.set(id, { ...this.#earlyReceipts.get(id), ...times });
        if (this.#earlyReceipts.size > EARLY_RECEIPT_CAPACITY) this.#earlyReceipts.delete(String(this.#earlyReceipts.keys().next().value));
        continue;
      }
      const merged = withTimes(existing, existing, times);
      if (hasSameTimes(existing, merged)) continue;
      this.#insert(merged);
      changed.push(merged);
    }
    return changed;
  }

  /** One that is on its way. @param {string} client_message_id @param {string} content @param {string} sent_at */
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
   * One on its way has failed (`error`), or is tried again (null): then it is the last of those that wait.
   * @param {string} client_message_id
   * @param {import("./errors.js").ChatError | null} error
   */
  setSendError(client_message_id, error) {
    const at = this.#findPending(client_message_id);
    if (at < 0) return;
    const [message] = this.#pending.splice(at, 1);
    /** @type {Message} */
    const changed = Object.freeze({ ...message, error, status: error ? "failed" : "sending" });
    if (error) this.#pending.splice(at, 0, changed);
    else this.#pending.push(changed);
    this.#snapshot = null;
  }

  /** @param {string} client_message_id @returns {boolean} */
  remove(client_message_id) {
    const at = this.#findPending(client_message_id);
    if (at >= 0) this.#pending.splice(at, 1);
    this.#snapshot = null;
    return at >= 0;
  }

  /** Everything from this `seq` on is to be here. What was kept from before it is forgotten. @param {number} seq */
  startAt(seq) {
    this.#firstSeq = seq;
    this.#dropOldest(this.#confirmed.filter((message) => Number(message.seq) < seq).length);
  }

  /** Forgets the oldest until `max` are left. @param {number} max @returns {boolean} Whether there were more. */
  trim(max) {
    if (this.size <= max) return false;
    this.#dropOldest(this.size - max);
    this.#firstSeq = Number(this.#confirmed[0].seq);
    return true;
  }

  /** The messages that this side has received and not read. @returns {Message[]} */
  unread() {
    return this.#confirmed.filter((message) => !message.mine && message.read_at === null);
  }

  /** @param {string} id @returns {Message | undefined} */
  find(id) {
    return this.#byId.get(id);
  }

  /** @param {number} count Of the oldest. */
  #dropOldest(count) {
    for (const message of this.#confirmed.splice(0, count)) this.#byId.delete(String(message.id));
    this.#snapshot = null;
  }

  /** @param {string} client_message_id */
  #findPending(client_message_id) {
    const wanted = client_message_id.toLowerCase(); // as the server writes UUIDs
    return this.#pending.findIndex((message) => message.client_message_id === wanted);
  }

  /** @param {Message} message */
  #insert(message) {
    const seq = Number(message.seq);
    let low = 0;
    let high = this.size;
    if (seq > this.lastSeq) low = high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (Number(this.#confirmed[middle].seq) < seq) low = middle + 1;
      else high = middle;
    }
    this.#confirmed.splice(low, this.#confirmed[low]?.seq === seq ? 1 : 0, Object.freeze(message));
    this.#byId.set(String(message.id), message);
    this.#snapshot = null;
  }
}

/**
 * With the first times that anybody knows: answers and events overtake each other, and a tick never goes back.
 * @param {Message} message
 * @param {...{ delivered_at?: string | null, read_at?: string | null }} sources
 * @returns {Message}
 */
function withTimes(message, ...sources) {
  const read_at = sources.map((source) => source.read_at).find((at) => at) ?? null;
  const delivered_at = sources.map((source) => source.delivered_at).find((at) => at) ?? read_at;
  return { ...message, delivered_at, read_at, status: read_at ? "read" : delivered_at ? "delivered" : "sent" };
}

/** @param {Message} a @param {Message} b */
function hasSameTimes(a, b) {
  return a.seq === b.seq && a.delivered_at === b.delivered_at && a.read_at === b.read_at;
}
