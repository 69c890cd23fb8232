// What is loaded of a conversation by HTTP: the newest page, older ones on demand, and whatever the socket may have missed.

import { Reloader } from "./reloader.js";

const PAGE = 50;
const RELOAD_PAGE = 200; // the most that the server gives
const RELOAD_PAGES = 5; // more than that was missed: begin anew with the newest
const RELOAD_BACK = 500; // how far back receipts are looked for
const GLANCE_BACK = 20;
const GAP_MS = 1_500; // a message may overtake the one before it by a moment

/** @typedef {import("./types.js").ServerMessage} ServerMessage */

/**
 * @typedef {object} Owner
 * @property {(messages: ServerMessage[], isOld: boolean) => void} take A page. `isOld`: it is older than what was announced, or begins everything.
 * @property {() => void} changed `loaded` or `hasMore` has.
 * @property {(error: import("./errors.js").ChatError) => void} failed It is not tried again.
 */

export class History {
  #context;
  #query;
  #timeline;
  #owner;
  #reloader;
  /** @type {Promise<boolean> | null} */
  #paging = null;
  /** @type {(() => void) | null} */
  #gapTimer = null;

  /**
   * @param {import("./client.js").Context} context
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
    this.#reloader = new Reloader(context, (glance) => this.#reload(glance), owner.failed);
  }

  /** Something may have been missed. */
  reload() {
    this.#reloader.now();
  }

  /** Nobody tells what is new. @param {boolean} on */
  poll(on) {
    this.#reloader.poll(on);
  }

  hurry() {
    this.#reloader.hurry();
  }

  close() {
    this.#reloader.close();
    this.#gapTimer?.();
    this.#gapTimer = null;
  }

  /** A message came by the socket: the one before it should be there, or come in a moment. */
  checkGap() {
    if (this.#gapTimer || this.#timeline.gap === null) return;
    this.#gapTimer = this.#context.clock.after(GAP_MS, () => {
      this.#gapTimer = null;
      if (this.#timeline.gap !== null) this.reload();
    });
  }

  /** The page before the oldest message. @returns {Promise<boolean>} Whether there are still older ones. */
  older() {
    this.#paging ??= this.#older().finally(() => { this.#paging = null; });
    return this.#paging;
  }

  /**
   * Afterwards the newest messages are here, and the receipts of those that are kept.
   * @param {boolean} glance Only the receipts of the last few: polling should cost the server little.
   */
  async #reload(glance) {
    let after = this.loaded ? this.#timeline.stale(glance ? GLANCE_BACK : RELOAD_BACK) : null;
    for (let pages = 0; after !== null && pages < RELOAD_PAGES; pages++) {
      const page = await this.#get({ after: after - 1, limit: RELOAD_PAGE });
      this.#owner.take(page.messages, false);
      if (!page.has_more) return;
      after = page.messages.at(-1).seq + 1;
    }
    const page = await this.#get({ limit: PAGE });
    const joins = this.#timeline.size === 0 || (page.messages[0]?.seq ?? 1) <= this.#timeline.last + 1;
    if (!joins) this.#timeline.restart();
    if (!joins || !this.loaded) this.hasMore = page.has_more;
    this.#owner.take(page.messages, !this.loaded);
    this.loaded = true;
    this.#owner.changed();
  }

  async #older() {
    if (!this.loaded || !this.hasMore) return this.hasMore;
    const before = this.#timeline.first;
    const limit = Math.min(PAGE, this.#context.maxMessages - this.#timeline.size);
    if (limit <= 0) return this.hasMore; // as many as may be kept: they would push out the newest
    const page = await this.#get({ before, limit });
    if (before !== this.#timeline.first) return this.hasMore; // begun anew meanwhile
    this.#owner.take(page.messages, true);
    this.hasMore = page.has_more;
    this.#owner.changed();
    return this.hasMore;
  }

  /** @param {{ before?: number, after?: number, limit: number }} place */
  #get(place) {
    return this.#context.http.get("/chat/history", { ...this.#query, ...place });
  }
}
