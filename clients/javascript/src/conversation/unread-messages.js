// The messages that this side has not read: where they began when the conversation opened, and marking all of them, loaded or not.
//
// The loaded messages show the first unread one among them. Only the inbox row knows one before them (`first_unread_seq`).

import { ChatError, toChatError } from "../errors.js";
import { PageSize } from "../http/page-size.js";
import { isHistory } from "../http/shapes.js";

const MAX_PAGE_SIZE = 200; // the server's limit
const MAX_IDS_PER_MARK = 500; // the server's limit
const MAX_SEARCHED_PAGES = 50; // as far as the server searches

/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/** @typedef {import("../types.js").ServerConversation} ServerConversation */
/** @typedef {{ marked: number, total: number | null }} Progress */

/**
 * @typedef {object} Owner
 * @property {(isNeedless: (oldestActivity: string | null) => boolean) => ServerConversation | null | Promise<ServerConversation | null>} findRow The
 *   inbox row of the conversation; null when there is none, or when the rows before that time are needless.
 * @property {() => boolean} isLoaded Whether the newest messages are loaded.
 * @property {(ids: string[]) => Promise<void>} mark Marks messages as read, at most 500.
 * @property {() => void} onChange `firstUnread` changed.
 */

export class UnreadMessages {
  /** @type {number | null | undefined} `seq`; null when all was read; undefined until it is known. */
  firstUnread = undefined;
  #context;
  #query;
  #timeline;
  #owner;
  #pageSize;
  /** @type {ServerConversation | null | undefined} undefined until it is known. */
  #row = undefined;
  /** @type {{ firstSeq: number, firstUnread: number | null, unreadCount: number } | null} The loaded messages when the load ended: the reader may read them at once. */
  #loaded = null;
  #search = 0; // identifies the search whose results count
  /** @type {Promise<number> | null} */
  #marking = null;
  #closed = false;

  /**
   * @param {import("../context.js").Context} context
   * @param {Record<string, string>} query
   * @param {import("./timeline.js").Timeline} timeline
   * @param {Owner} owner
   */
  constructor(context, query, timeline, owner) {
    this.#context = context;
    this.#query = query;
    this.#timeline = timeline;
    this.#owner = owner;
    this.#pageSize = new PageSize(context.clock);
  }

  /** The conversation opens: finds where the unread messages begin. */
  open() {
    this.#closed = false;
    this.firstUnread = undefined;
    this.#loaded = null;
    void this.#findRow();
  }

  /** A load of messages ended. */
  onLoadDone() {
    if (this.#loaded || !this.#owner.isLoaded()) return;
    this.#recordLoaded();
    this.#decide();
  }

  /** Finds the first unread message as of now. */
  reset() {
    if (this.firstUnread === undefined) return; // the search still runs
    this.firstUnread = undefined;
    this.#recordLoaded();
    void this.#findRow();
  }

  /**
   * Marks all messages that are unread now.
   * @param {(progress: Progress) => void} onProgress
   * @returns {Promise<number>} How many it marked.
   */
  markAll(onProgress) {
    if (!this.#marking) {
      this.#marking = this.#markAll(onProgress).finally(() => { this.#marking = null; });
      this.#marking.catch(() => {}); // a caller that needs the outcome has the promise
    }
    return this.#marking;
  }

  close() {
    this.#closed = true;
    this.#search++;
  }

  async #findRow() {
    const search = ++this.#search;
    this.#row = undefined;
    /** @type {ServerConversation | null} */
    let row = null;
    try {
      const found = this.#owner.findRow((oldestActivity) => this.#isAllLoadedAndRead() || this.#isOlder(oldestActivity));
      row = found instanceof Promise ? await found : found; // at once, if the inbox has it: a page scrolls there at its first load
    } catch { /* the loaded messages decide alone */ }
    if (search !== this.#search) return;
    this.#row = row;
    this.#decide();
  }

  /** Whether the loaded messages answer alone. */
  #isAllLoadedAndRead() {
    return this.#loaded !== null && this.#loaded.firstSeq === 1 && this.#loaded.firstUnread === null;
  }

  /** Whether rows before this time cannot be of this conversation: it has a newer message, or none. @param {string | null} oldestActivity */
  #isOlder(oldestActivity) {
    if (!this.#loaded || oldestActivity === null) return false;
    const newest = this.#timeline.messages.findLast(({ seq }) => seq !== null);
    return !newest || Date.parse(oldestActivity) < Date.parse(newest.sent_at);
  }

  #recordLoaded() {
    const unread = this.#timeline.unread();
    this.#loaded = { firstSeq: this.#timeline.firstSeq, firstUnread: unread[0]?.seq ?? null, unreadCount: unread.length };
  }

  /** Decides when both the row and the messages are there. */
  #decide() {
    if (this.firstUnread !== undefined || this.#row === undefined || !this.#loaded) return;
    const first = this.#row?.first_unread_seq;
    const missing = (this.#row?.unread_count ?? 0) - this.#loaded.unreadCount;
    if (first === undefined && missing > 0 && this.#loaded.firstSeq > 1) return void this.#searchOlder(missing);
    this.#decideOn(first !== undefined && first < this.#loaded.firstSeq ? first : this.#loaded.firstUnread);
  }

  /** @param {number | null} first */
  #decideOn(first) {
    this.firstUnread = first;
    this.#owner.onChange();
  }

  /**
   * The server does not know where they begin, only how many they are: older pages are read until that many are found.
   * @param {number} missing
   */
  async #searchOlder(missing) {
    if (!this.#loaded) return;
    const search = this.#search;
    let { firstSeq: before, firstUnread: first } = this.#loaded;
    let found = 0;
    try {
      for (let pages = 0; found < missing && before > 1 && pages < MAX_SEARCHED_PAGES; pages++) {
        const { messages } = await this.#getPage({ before });
        if (search !== this.#search) return;
        const unread = messages.filter((one) => !one.read_at && !this.#timeline.isMine(one));
        first = unread[0]?.seq ?? first;
        found += unread.length;
        before = messages[0]?.seq ?? 1;
      }
    } catch { /* what was found decides */ }
    if (search === this.#search && this.firstUnread === undefined) this.#decideOn(first);
  }

  /** @param {(progress: Progress) => void} onProgress */
  async #markAll(onProgress) {
    const row = await this.#owner.findRow((oldestActivity) => this.#isOlder(oldestActivity));
    const lastSeq = Math.max(row?.last_message.seq ?? 0, this.#timeline.lastSeq); // a message that comes later was not seen
    const total = row?.unread_count ?? null;
    let after = this.#firstSeqToMark(row) - 1;
    /** @type {string[]} */
    let ids = [];
    let marked = 0;
    const flush = async () => {
      const batch = ids.slice(0, MAX_IDS_PER_MARK);
      ids = ids.slice(batch.length);
      if (batch.length === 0) return;
      try {
        await this.#owner.mark(batch);
      } finally {
        this.#assertOpen();
      }
      marked += batch.length;
      onProgress({ marked, total });
    };
    while (after < lastSeq) {
      const page = await this.#getPage({ after });
      this.#assertOpen();
      ids.push(...page.messages.filter((one) => one.seq <= lastSeq && !one.read_at && !this.#timeline.isMine(one)).map(({ id }) => id));
      while (ids.length >= MAX_IDS_PER_MARK) await flush();
      if (!page.has_more || page.messages.length === 0) break;
      after = Number(page.messages.at(-1)?.seq);
    }
    await flush();
    return marked;
  }

  /** @param {ServerConversation | null} row */
  #firstSeqToMark(row) {
    const unread = this.#timeline.unread();
    const firstLoaded = unread[0]?.seq ?? Infinity;
    if (row?.first_unread_seq !== undefined) return Math.min(row.first_unread_seq, firstLoaded);
    // A server of an earlier version does not say where they begin.
    return row && row.unread_count > unread.length ? 1 : firstLoaded;
  }

  /** @param {{ after: number } | { before: number }} place @returns {Promise<{ messages: ServerMessage[], has_more: boolean }>} */
  async #getPage(place) {
    const limit = this.#pageSize.limit(MAX_PAGE_SIZE);
    try {
      return await this.#pageSize.measure(() => this.#context.http.get("/chat/history", { ...this.#query, ...place, limit }, isHistory));
    } catch (thrown) {
      throw toChatError(thrown, "network");
    }
  }

  #assertOpen() {
    if (this.#closed) throw new ChatError("the conversation was closed", { code: "closed" });
  }
}
