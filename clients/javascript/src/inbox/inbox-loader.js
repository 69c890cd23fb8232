// Loads the rows of the inbox over HTTP, page by page. A frame that arrives during a load is newer than the response.

import { PageSize } from "../http/page-size.js";
import { isInbox } from "../http/shapes.js";
import { inboxQuery } from "../participants/participant.js";
import { MAX_ROWS } from "./inbox-rows.js";

const PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 200; // the server's limit

/** @typedef {import("../types.js").ServerConversation} ServerConversation */

export class InboxLoader {
  /** Whether the first page is loaded. */
  loaded = false;
  #context;
  #rows;
  #onChange;
  #pageSize;
  /** @type {string | null} */
  #nextCursor = null;
  /** @type {Set<string>} Conversations whose row came by a frame after the running load began. */
  #updatedByFrame = new Set();

  /**
   * @param {import("../context.js").Context} context
   * @param {import("./inbox-rows.js").InboxRows} rows
   * @param {() => void} onChange
   */
  constructor(context, rows, onChange) {
    this.#context = context;
    this.#rows = rows;
    this.#onChange = onChange;
    this.#pageSize = new PageSize(context.clock);
  }

  get hasMore() {
    return this.#nextCursor !== null && this.#rows.size < MAX_ROWS;
  }

  /** Whether every row of the server is here. Beyond `MAX_ROWS` some never are. */
  get isComplete() {
    return this.loaded && this.#nextCursor === null && this.#rows.size < MAX_ROWS;
  }

  /** @param {ServerConversation} conversation Of a frame. */
  applyFrame(conversation) {
    this.#updatedByFrame.add(conversation.conversation_id);
    this.#rows.put(conversation);
    this.#onChange();
  }

  /** Loads as many rows as the inbox holds, from the newest on. */
  async refetch() {
    const count = Math.min(Math.max(this.#rows.size, PAGE_SIZE), MAX_ROWS);
    this.#updatedByFrame.clear();
    /** @type {ServerConversation[]} */
    const conversations = [];
    /** @type {string | null} */
    let cursor = null;
    do {
      const limit = this.#pageSize.limit(Math.min(MAX_PAGE_SIZE, count - conversations.length));
      const page = /** @type {any} */ (await this.#getPage({ limit, ...(cursor ? { cursor } : {}) }));
      conversations.push(...page.conversations);
      cursor = page.next_cursor;
      if (page.conversations.length === 0) break;
    } while (cursor && conversations.length < count);
    this.#rows.replaceAll(conversations, this.#updatedByFrame);
    this.#nextCursor = cursor;
    this.loaded = true;
    this.#onChange();
  }

  /** Loads the next page. @returns {Promise<boolean>} Whether there is another one. */
  async loadMore() {
    if (!this.hasMore) return false;
    const cursor = this.#nextCursor;
    const page = await this.#getPage({ limit: this.#pageSize.limit(PAGE_SIZE), cursor: String(cursor) });
    if (cursor !== this.#nextCursor) return this.hasMore; // a refetch replaced the rows during the request
    for (const row of page.conversations) if (!this.#rows.has(row.conversation_id)) this.#rows.put(row);
    this.#nextCursor = page.next_cursor;
    this.#onChange();
    return this.hasMore;
  }

  /** One row, to learn whether the server gives any. */
  probe() {
    return this.#context.http.get("/chat/conversations", { ...inboxQuery(this.#context), limit: 1 }, isInbox);
  }

  /** @param {{ limit: number, cursor?: string }} position */
  #getPage(position) {
    return this.#pageSize.measure(() => this.#context.http.get("/chat/conversations", { ...inboxQuery(this.#context), ...position }, isInbox));
  }
}
