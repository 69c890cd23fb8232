// What is loaded of a conversation by HTTP: the newest page, older ones on demand, and whatever the socket may have missed.

import { isHistory } from "./response.js";
import { PageSize } from "./page-size.js";
import { Refetcher } from "./refetcher.js";

const PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 200; // the max that the server gives
const MAX_REFETCHED_MESSAGES = 1_000; // more than that was missed: begin anew with the newest
const RECEIPT_LOOKBACK = 500; // how far back receipts are looked for
const PARTIAL_RECEIPT_LOOKBACK = 20;
const GAP_GRACE_MS = 1_500; // a message may overtake the one before it by a moment

/** @typedef {import("./types.js").ServerMessage} ServerMessage */

/**
 * @typedef {object} Owner
 * @property {(messages: ServerMessage[], isOld: boolean) => void} mergePage A page. `isOld`: it is older than what was announced, or begins everything.
 * @property {() => void} onChange `loaded` or `hasMore` has.
 * @property {() => void} onIdle Nothing is being loaded.
 * @property {(error: import("./errors.js").ChatError) => void} onFailed It is tried again.
 * @property {() => void} onRecovered It has failed before, and has not now.
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

  /**
   * @param {import("./chat.js").Context} context
   * @param {Record<string, string>} query
   * @param {import("./timeline.js").Timeline} timeline
   * @param {Owner} owner
   */
  constructor(context, query, timeline, owner) {
    /** Whether the newest messages have been loaded. */
    this.loaded = false;
    /** Whether there are older ones. */
    this.hasMore = false;
    this.#context = context;
    this.#query = query;
    this.#timeline = timeline;
    this.#owner = owner;
    this.#refetcher = new Refetcher(context, { ...owner, load: (partial) => this.#load(partial) });
    this.#pageSize = new PageSize(context.clock);
  }

  /** Why the newest messages could not be loaded, while that is tried again. */
  get error() {
    return this.#refetcher.error;
  }

  /** `seq` of the first one that is missing and being loaded at this moment; Infinity when there is none. */
  get firstMissingSeq() {
    return (this.#refetcher.loading ? this.#timeline.firstMissingSeq : null) ?? Infinity;
  }

  /** Something may have been missed. */
  refetch() {
    this.#closed = false;
    this.#refetcher.refetch();
  }

  /** The same, and whatever a failure has to wait for is over. */
  refetchNow() {
    this.refetch();
    this.#refetcher.skipWait();
  }

  /** Nobody tells what is new. @param {boolean} on */
  setPolling(on) {
    this.#refetcher.setPolling(on);
  }

  retryNow() {
    this.#refetcher.retryNow();
  }

  /** @param {boolean} hadFailed */
  shortenWait(hadFailed) {
    this.#refetcher.shortenWait(hadFailed);
  }

  /** What is under way is not taken any more. */
  close() {
    this.#closed = true;
    this.#refetcher.close();
    this.#cancelGapTimer?.();
    this.#cancelGapTimer = null;
  }

  /** A message came by the socket: those before it should be there, or come in a moment. */
  checkForGap() {
    if (this.#closed || this.#cancelGapTimer || this.#timeline.firstMissingSeq === null) return;
    this.#cancelGapTimer = this.#context.clock.after(GAP_GRACE_MS, () => {
      this.#cancelGapTimer = null;
      if (this.#timeline.firstMissingSeq !== null) this.refetch();
    });
  }

  /** The page before the oldest message. @returns {Promise<boolean>} Whether there are still older ones, and room for them. */
  loadOlder() {
    if (!this.#olderPage) {
      this.#olderPage = this.#fetchOlder().finally(() => { this.#olderPage = null; });
      this.#olderPage.catch(() => {}); // whoever wants to know has the promise
    }
    return this.#olderPage;
  }

  /** @param {boolean} partial */
  async #load(partial) {
    const { firstMissingSeq } = this.#timeline;
    await this.#fetchNewest(partial);
    if (this.#timeline.firstMissingSeq !== firstMissingSeq) this.checkForGap(); // one got lost meanwhile; what the server does not have is not asked for again
  }

  /**
   * Afterwards the newest messages are here, and the receipts of those that are kept.
   * @param {boolean} partial Only the receipts of the last few: polling should cost the server little.
   */
  async #fetchNewest(partial) {
    let next = this.loaded ? this.#timeline.firstStaleSeq(partial ? PARTIAL_RECEIPT_LOOKBACK : RECEIPT_LOOKBACK) : 0;
    for (let loaded = 0; this.loaded && loaded < MAX_REFETCHED_MESSAGES;) {
      const page = await this.#getPage({ after: next - 1 }, MAX_PAGE_SIZE);
      if (this.#closed) return;
      this.#owner.mergePage(page.messages, false);
      if (!page.has_more || page.messages.length === 0) return;
      next = page.messages.at(-1).seq + 1;
      loaded += page.messages.length;
    }
    const page = await this.#getPage({}, PAGE_SIZE);
    if (this.#closed) return;
    const first = page.messages[0]?.seq ?? 1;
    if (first > next) { // does not join what is here
      this.#timeline.startAt(first);
      this.hasMore = page.has_more;
    }
    this.#owner.mergePage(page.messages, !this.loaded);
    this.loaded = true;
    this.#owner.onChange();
  }

  async #fetchOlder() {
    if (!this.loaded || !this.hasMore) return false;
    const before = this.#timeline.firstSeq;
    const limit = Math.min(PAGE_SIZE, this.#context.maxMessages - this.#timeline.size);
    if (limit <= 0) return false; // as many as may be kept: they would push out the newest
    const page = await this.#getPage({ before }, limit);
    if (before !== this.#timeline.firstSeq) return this.hasMore; // begun anew meanwhile
    this.hasMore = page.has_more;
    this.#timeline.startAt(page.messages[0]?.seq ?? before);
    this.#owner.mergePage(page.messages, true); // and forgets some of them again if meanwhile there is no room
    this.#owner.onChange();
    return this.hasMore;
  }

  /** @param {{ before?: number, after?: number }} place @param {number} max */
  #getPage(place, max) {
    const limit = this.#pageSize.limit(max);
    return this.#pageSize.measure(() => this.#context.http.get("/chat/history", { ...this.#query, ...place, limit }, isHistory));
  }
}
