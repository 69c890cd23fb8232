// Announces each message that arrives for the participant, in any conversation, once. Open conversations give their messages. For all
// others the inbox rows do: a row shows the last message, and the messages before it are loaded.
//
// The feed begins when the rows are loaded. What they show then is old. A row that appears later is new, or was not loaded before: then
// only messages after the oldest loaded row are new, because rows come by activity.

import { toChatError } from "../errors.js";
import { PageSize } from "../http/page-size.js";
import { isHistory } from "../http/shapes.js";
import { toMessage } from "../message.js";
import { conversationQuery, keyOf } from "../participants/participant.js";
import { Refetcher } from "../retry/refetcher.js";

const PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 200; // the server's limit
const MAX_LOADED_MESSAGES = 1_000; // per conversation
const MAX_CONVERSATIONS = 5_000; // that the feed remembers; the one that it learned of first leaves first
const OPEN_GRACE_MS = 1_500; // an open conversation gets its messages by its own socket, perhaps a little after the row

/** @typedef {import("../types.js").Participant} Participant */
/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").InboxRow} InboxRow */
/** @typedef {{ seq: number | null, ahead: Set<number> }} Progress All up to `seq` was announced or is old. So were those of `ahead`. null
 * means that the row has not shown yet where the new messages begin. */

/**
 * @typedef {object} FeedOwner
 * @property {(detail: { peer: Participant, conversation_id: string, message: Message }) => void} onMessage
 * @property {(peer: Participant, client_message_id: string | null) => boolean} isOwn Whether this chat is sending the message.
 * @property {(peer: Participant) => boolean} isOpen Whether the conversation is open.
 */

export class MessageFeed {
  #context;
  #owner;
  #getRows;
  #refetcher;
  #pageSize;
  /** @type {Map<string, Progress>} By peer. */
  #progress = new Map();
  /** @type {string | null | undefined} Activity of the oldest row at the beginning; null when all rows were there; undefined before. */
  #oldestActivity = undefined;
  /** @type {Map<string, InboxRow>} Rows whose messages must be loaded, by peer. */
  #stale = new Map();
  /** @type {Map<string, () => void>} Timers of open conversations, by peer. */
  #grace = new Map();
  #closed = false;

  /**
   * @param {import("../context.js").Context} context
   * @param {FeedOwner} owner
   * @param {() => readonly InboxRow[]} getRows
   * @param {Pick<import("../retry/refetcher.js").Owner, "onFailed" | "onRecovered">} loads
   */
  constructor(context, owner, getRows, loads) {
    this.#context = context;
    this.#owner = owner;
    this.#getRows = getRows;
    this.#refetcher = new Refetcher(context, { ...loads, load: () => this.#loadStale() });
    this.#pageSize = new PageSize(context.clock);
  }

  /** The rows changed. @param {boolean} isComplete Whether the server has no other rows. */
  update(isComplete) {
    const rows = this.#getRows();
    const isBeginning = this.#oldestActivity === undefined;
    if (isBeginning) this.#oldestActivity = isComplete ? null : rows.at(-1)?.last_activity_at ?? null;
    for (const row of rows) this.#takeRow(row, isBeginning);
  }

  /** A message of an open conversation. @param {Participant} peer @param {string} conversation_id @param {Message} message */
  offer(peer, conversation_id, message) {
    if (this.#closed || !this.#advance(peer, Number(message.seq))) return;
    if (message.mine && this.#owner.isOwn(peer, message.client_message_id)) return;
    this.#owner.onMessage({ peer, conversation_id, message });
  }

  /** This chat sent the message, or it is old. @param {Participant} peer @param {number} seq */
  skip(peer, seq) {
    this.#advance(peer, seq);
  }

  /** All up to this message is old. @param {Participant} peer @param {number} seq */
  skipUntil(peer, seq) {
    const progress = this.#progress.get(keyOf(peer)) ?? this.#remember(peer, seq);
    for (const one of progress.ahead) if (one <= seq) progress.ahead.delete(one);
    progress.seq = Math.max(progress.seq ?? 0, seq);
    joinAhead(progress);
  }

  retryNow(isForced = false) {
    this.#refetcher.retryNow(isForced);
  }

  /** @param {boolean} hadFailed */
  shortenWait(hadFailed) {
    this.#refetcher.shortenWait(hadFailed);
  }

  close() {
    this.#closed = true;
    this.#refetcher.close();
    for (const cancel of this.#grace.values()) cancel();
    this.#grace.clear();
    this.#stale.clear();
  }

  /** @param {InboxRow} row @param {boolean} isBeginning @param {boolean} [isGraceOver] */
  #takeRow(row, isBeginning, isGraceOver = false) {
    const { peer, last_message: last } = row;
    const key = keyOf(peer);
    const isOld = isBeginning || (typeof this.#oldestActivity === "string" && row.last_activity_at <= this.#oldestActivity);
    const progress = this.#progress.get(key) ?? this.#remember(peer, isOld ? last.seq : this.#oldestActivity === null ? 0 : null);
    if (progress.seq !== null) {
      if (last.seq <= progress.seq) return;
      if (isNext(progress.seq, progress.ahead, last.seq)) return this.offer(peer, row.conversation_id, toMessage(last, this.#context.me));
    }
    if (this.#owner.isOpen(peer) && !isGraceOver) return this.#waitForConversation(key);
    this.#stale.set(key, row);
    this.#refetcher.refetch();
  }

  /** @param {string} key */
  #waitForConversation(key) {
    if (this.#grace.has(key)) return;
    this.#grace.set(key, this.#context.clock.after(OPEN_GRACE_MS, () => {
      this.#grace.delete(key);
      const row = this.#getRows().find((one) => keyOf(one.peer) === key);
      if (row) this.#takeRow(row, false, true);
    }));
  }

  /** One conversation after the other. A refusal concerns one of them: its messages are not for this participant. */
  async #loadStale() {
    for (const [key, row] of this.#stale) {
      try {
        await this.#loadMessages(row);
      } catch (thrown) {
        const error = toChatError(thrown, "network");
        if (error.retryable || error.isUnauthorized) throw error;
        this.skipUntil(row.peer, row.last_message.seq);
      }
      if (this.#stale.get(key) === row) this.#stale.delete(key); // otherwise the row changed again
    }
  }

  /** @param {InboxRow} row */
  async #loadMessages({ peer, conversation_id, last_message: last }) {
    const { me, location_id } = this.#context;
    const query = conversationQuery(location_id, me, peer);
    let reached = this.#progress.get(keyOf(peer))?.seq ?? null;
    if (reached === null) {
      const page = await this.#getPage({ ...query }, PAGE_SIZE);
      const firstNew = page.messages.find((one) => one.sent_at > String(this.#oldestActivity));
      reached = (firstNew ?? last).seq - 1;
      this.skipUntil(peer, reached);
    }
    for (let after = Math.max(reached, last.seq - MAX_LOADED_MESSAGES); after < last.seq;) {
      const page = await this.#getPage({ ...query, after }, MAX_PAGE_SIZE);
      for (const message of page.messages) this.offer(peer, conversation_id, toMessage(message, me));
      if (!page.has_more || page.messages.length === 0) break;
      after = Number(page.messages.at(-1)?.seq);
    }
    this.skipUntil(peer, last.seq); // what the server does not give is not requested again
  }

  /**
   * @param {import("../http/http-client.js").Query} query
   * @param {number} max
   * @returns {Promise<{ messages: import("../types.js").ServerMessage[], has_more: boolean }>}
   */
  #getPage(query, max) {
    const limit = this.#pageSize.limit(max);
    return this.#pageSize.measure(() => this.#context.http.get("/chat/history", { ...query, limit }, isHistory));
  }

  /** @param {Participant} peer @param {number} seq @returns {boolean} Whether the message was not counted before. */
  #advance(peer, seq) {
    // Before the feed began, the first message of a conversation tells where it begins. Afterwards its row does, which may come later.
    const first = this.#oldestActivity === undefined ? seq - 1 : this.#oldestActivity === null ? 0 : null;
    const progress = this.#progress.get(keyOf(peer)) ?? this.#remember(peer, first);
    if (seq <= (progress.seq ?? 0) || progress.ahead.has(seq)) return false;
    progress.ahead.add(seq);
    joinAhead(progress);
    return true;
  }

  /** @param {Participant} peer @param {number | null} seq @returns {Progress} */
  #remember(peer, seq) {
    /** @type {Progress} */
    const progress = { seq, ahead: new Set() };
    this.#progress.set(keyOf(peer), progress);
    if (this.#progress.size > MAX_CONVERSATIONS) {
      this.#progress.delete(String(this.#progress.keys().next().value));
      this.#oldestActivity = this.#getRows()[0]?.last_activity_at ?? this.#oldestActivity; // what it forgot must not look new
    }
    return progress;
  }
}

/** Whether all messages before this one were counted, and it was not. @param {number} reached @param {Set<number>} ahead @param {number} seq */
function isNext(reached, ahead, seq) {
  return !ahead.has(seq) && [...ahead].filter((one) => one < seq).length === seq - 1 - reached;
}

/** @param {Progress} progress */
function joinAhead(progress) {
  if (progress.seq === null) return;
  while (progress.ahead.delete(progress.seq + 1)) progress.seq++;
}
