// The rows of the inbox, one per conversation, in order of their last activity. At most 1,000 rows; the least active leaves first.

import { isSentBy } from "../message.js";
import { getPeer, keyOf } from "../participants/participant.js";

export const MAX_ROWS = 1_000;

/** @typedef {import("../types.js").InboxRow} InboxRow */
/** @typedef {import("../types.js").ServerConversation} ServerConversation */

export class InboxRows {
  #me;
  /** @type {Map<string, InboxRow>} By `conversation_id`. */
  #rows = new Map();
  /** @type {readonly InboxRow[] | null} */
  #snapshot = null;

  /** @param {import("../types.js").Participant} me */
  constructor(me) {
    this.#me = me;
  }

  /** Newest activity first. The same array until a row changes. @returns {readonly InboxRow[]} */
  get list() {
    this.#snapshot ??= Object.freeze([...this.#rows.values()].sort(compareActivity));
    return this.#snapshot;
  }

  get size() {
    return this.#rows.size;
  }

  /** @param {string} conversation_id */
  has(conversation_id) {
    return this.#rows.has(conversation_id);
  }

  /** @param {import("../types.js").Participant} peer @returns {InboxRow | null} */
  find(peer) {
    const key = keyOf(peer);
    return this.list.find((row) => keyOf(row.peer) === key) ?? null;
  }

  /** @param {ServerConversation} conversation */
  put(conversation) {
    const mine = isSentBy(this.#me, conversation.last_message);
    this.#rows.set(conversation.conversation_id, Object.freeze({ ...conversation, peer: getPeer(conversation, this.#me), mine }));
    if (this.#rows.size > MAX_ROWS) {
      const oldest = [...this.#rows.values()].sort(compareActivity).at(-1);
      if (oldest) this.#rows.delete(oldest.conversation_id);
    }
    this.#snapshot = null;
  }

  /**
   * Replaces all rows.
   * @param {readonly ServerConversation[]} conversations
   * @param {Iterable<string>} keptIds Rows that are newer than these.
   */
  replaceAll(conversations, keptIds) {
    const kept = [...keptIds].flatMap((id) => this.#rows.get(id) ?? []);
    this.#rows.clear();
    for (const conversation of conversations) this.put(conversation);
    for (const row of kept) this.#rows.set(row.conversation_id, row);
    this.#snapshot = null;
  }
}

/** @param {InboxRow} a @param {InboxRow} b */
function compareActivity(a, b) {
  if (a.last_activity_at !== b.last_activity_at) return a.last_activity_at < b.last_activity_at ? 1 : -1;
  return a.conversation_id < b.conversation_id ? 1 : -1;
}
