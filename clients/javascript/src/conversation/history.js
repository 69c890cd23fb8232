// Loads messages over HTTP: the newest page, older pages on request, and all that the socket may have missed. After a gap of more
// than 1,000 messages it starts over with the newest page.

import { isHistory } from "../http/shapes.js";
import { PageSize } from "../http/page-size.js";
import { Refetcher } from "../retry/refetcher.js";

const PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 200; // the server's limit
const MAX_REFETCHED_MESSAGES = 1_000;
const RECEIPT_LOOKBACK = 500; // messages whose receipts a refetch updates
const PARTIAL_RECEIPT_LOOKBACK = 20; // the same for a poll, which should cost the server little
const GAP_GRACE_MS = 1_500; // a message may overtake the one before it by so much

/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/** @typedef {import("../errors.js").ChatError} ChatError */

/**
 * @typedef {object} Owner
 * @property {(messages: ServerMessage[], isOld: boolean) => void} mergePage `isOld`: the page does not contain new messages, so
 *   nothing of it is announced.
 * @property {() => void} onChange `loaded` or `hasMore` changed.
 * @property {() => void} onIdle No load runs.
 * @property {(error: ChatError) => void} onFailed The history will retry.
 * @property {() => void} onRecovered A load succeeded after a failure.
 */

export class History {
  #context;
  #query;
  #timeline;
  #owner;
  #refetcher;
  #pageSize;
  /** @type {Promise<boolean> | null} */
  #olderPage = null;
  /** @type {(() => void) | null} */
  #cancelGapTimer = null;
  #closed = false;
  /** @type {() => void} */
  #endFirstLoad = () => {};
  /** @type {Promise<void>} Resolves when the newest messages are loaded, or the conversation closes. */
  #firstLoad = new Promise((resolve) => { this.#endFirstLoad = resolve; });

  /**
   * @param {import("../context.js").Context} context
   * @param {Record<string, string>} query
   * @param {import("./timeline.js").Timeline} timeline
   * @param {Owner} owner
   */
  constructor(context, query, timeline, owner) {
    /** Whether the newest messages are loaded. */
    this.loaded = false;
    /** Whether the server has older messages. */
    this.hasMore = false;
    this.#context = context;
    this.#query = query;
    this.#timeline = timeline;
    this.#owner = owner;
    this.#refetcher = new Refetcher(context, { ...owner, load: (partial) => this.#load(partial) });
    this.#pageSize = new PageSize(context.clock);
  }

  /** Why the newest messages could not be loaded, until a retry succeeds. */
  get error() {
    return this.#refetcher.error;
  }

  /** `seq` of the first message that a running load should bring; Infinity when there is none. */
  get firstMissingSeq() {
    return (this.#refetcher.loading ? this.#timeline.firstMissingSeq : null) ?? Infinity;
  }

  /** The socket may have missed something. */
  refetch() {
    this.#closed = false;
    this.#refetcher.refetch();
  }

  /** The same, and a failed load does not wait any longer. */
  refetchNow() {
    this.refetch();
    this.#refetcher.skipWait();
  }

  /** @param {boolean} isPolling Whether frames are missing, so that polling replaces them. */
  setPolling(isPolling) {
    this.#refetcher.setPolling(isPolling);
  }

  /** The network, the page or a token is back. @param {boolean} [isForced] */
  retryNow(isForced) {
    this.#refetcher.retryNow(isForced);
  }

  /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
  shortenWait(hadFailed) {
    this.#refetcher.shortenWait(hadFailed);
  }

  /** Ignores the results of running loads. */
  close() {
    this.#closed = true;
    this.#endFirstLoad();
    this.#refetcher.close();
    this.#cancelGapTimer?.();
    this.#cancelGapTimer = null;
  }

  /** A message arrived by the socket. If earlier ones do not follow soon, they are loaded. */
  checkForGap() {
    if (this.#closed || this.#cancelGapTimer || this.#timeline.firstMissingSeq === null) return;
    this.#cancelGapTimer = this.#context.clock.after(GAP_GRACE_MS, () => {
      this.#cancelGapTimer = null;
      if (this.#timeline.firstMissingSeq !== null) this.refetch();
    });
  }

  /** Loads the page before the oldest message. @param {number} [size] @returns {Promise<boolean>} Whether a further call can add more. */
  loadOlder(size = PAGE_SIZE) {
    if (!this.#olderPage) {
      this.#olderPage = this.#fetchOlder(size).finally(() => { this.#olderPage = null; });
      this.#olderPage.catch(() => {}); // a caller that needs the outcome has the promise
    }
    return this.#olderPage;
  }

  /** Loads older pages until the message is there. @param {number} seq @returns {Promise<boolean>} Whether it is. */
  async loadUntil(seq) {
    await this.#firstLoad;
    for (let hasMore = true; hasMore && !this.#closed && this.#timeline.firstSeq > seq;) {
      const before = this.#timeline.firstSeq;
      hasMore = await this.loadOlder(MAX_PAGE_SIZE) && this.#timeline.firstSeq < before;
    }
    return this.#timeline.firstSeq <= seq && seq <= this.#timeline.lastSeq;
  }

  /** @param {boolean} partial */
  async #load(partial) {
    const { firstMissingSeq } = this.#timeline;
    await this.#fetchNewest(partial);
    // A new gap appeared during the load. A gap that the server cannot fill is not loaded again.
    if (this.#timeline.firstMissingSeq !== firstMissingSeq) this.checkForGap();
  }

  /** Loads what is new or may have changed: first page by page from the first stale message, then the newest page. @param {boolean} partial */
  async #fetchNewest(partial) {
    let nextSeq = this.loaded ? this.#timeline.firstStaleSeq(partial ? PARTIAL_RECEIPT_LOOKBACK : RECEIPT_LOOKBACK) : 0;
    for (let count = 0; this.loaded && count < MAX_REFETCHED_MESSAGES;) {
      const page = await this.#getPage({ after: nextSeq - 1 }, MAX_PAGE_SIZE);
      if (this.#closed) return;
      this.#owner.mergePage(page.messages, false);
      if (!page.has_more || page.messages.length === 0) return;
      nextSeq = page.messages.at(-1).seq + 1;
      count += page.messages.length;
    }
    const page = await this.#getPage({}, PAGE_SIZE);
    if (this.#closed) return;
    const firstSeq = page.messages[0]?.seq ?? 1;
    if (firstSeq > nextSeq) { // the page does not join the loaded messages
      this.#timeline.startAt(firstSeq);
      this.hasMore = page.has_more;
    }
    this.#owner.mergePage(page.messages, !this.loaded);
    this.loaded = true;
    this.#endFirstLoad();
    this.#owner.onChange();
  }

  /** @param {number} size */
  async #fetchOlder(size) {
    if (!this.loaded || !this.hasMore) return false;
    const before = this.#timeline.firstSeq;
    const max = Math.min(size, this.#context.maxMessages - this.#timeline.size);
    if (max <= 0) return false; // more would push out the newest messages
    const page = await this.#getPage({ before }, max);
    if (before !== this.#timeline.firstSeq) return this.hasMore; // the timeline started over during the request
    this.hasMore = page.has_more;
    this.#timeline.startAt(page.messages[0]?.seq ?? before);
    this.#owner.mergePage(page.messages, true); // which trims the oldest again, if new messages took the room
    this.#owner.onChange();
    return this.hasMore;
  }

  /** @param {{ before?: number, after?: number }} position @param {number} max */
  #getPage(position, max) {
    const limit = this.#pageSize.limit(max);
    return this.#pageSize.measure(() => this.#context.http.get("/chat/history", { ...this.#query, ...position, limit }, isHistory));
  }
}
