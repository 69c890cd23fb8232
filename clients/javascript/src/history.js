// What is loaded of a conversation by HTTP: the newest page, older ones on demand, and whatever the socket may have missed.

import { isHistory } from "./answer.js";
import { PageSize } from "./page-size.js";
import { Reloader } from "./reloader.js";

const PAGE = 50;
const RELOAD_PAGE = 200; // the most that the server gives
const RELOAD_MOST = 1_000; // more than that was missed: begin anew with the newest
const RELOAD_BACK = 500; // how far back receipts are looked for
const GLANCE_BACK = 20;
const MISSING_MS = 1_500; // a message may overtake the one before it by a moment

/** @typedef {import("./types.js").ServerMessage} ServerMessage */

/**
 * @typedef {object} Owner
 * @property {(messages: ServerMessage[], isOld: boolean) => void} take A page. `isOld`: it is older than what was announced, or begins everything.
 * @property {() => void} changed `loaded` or `hasMore` has.
 * @property {() => void} rested Nothing is being loaded.
 * @property {(error: import("./errors.js").ChatError) => void} failed It is tried again.
 * @property {() => void} worked It has failed before, and has not now.
 */

export class History {
  #context;
  #query;
  #timeline;
  #owner;
  #reloader;
  #size;
  /** @type {Promise<boolean> | null} */
  #paging = null;
  /** @type {(() => void) | null} */
  #missingTimer = null;
  #closed = false;

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
    this.#reloader = new Reloader(context, { ...owner, load: (glance) => this.#load(glance) });
    this.#size = new PageSize(context.clock);
  }

  /** Why the newest messages could not be loaded, while that is tried again. */
  get error() {
    return this.#reloader.error;
  }

  /** `seq` of the first one that is missing and being loaded at this moment; Infinity when there is none. */
  get awaited() {
    return (this.#reloader.loading ? this.#timeline.missing : null) ?? Infinity;
  }

  /** Something may have been missed. */
  reload() {
    this.#closed = false;
    this.#reloader.now();
  }

  /** The same, and whatever a failure has to wait for is over. */
  reloadAtOnce() {
    this.reload();
    this.#reloader.endWait();
  }

  /** Nobody tells what is new. @param {boolean} on */
  poll(on) {
    this.#reloader.poll(on);
  }

  hurry() {
    this.#reloader.hurry();
  }

  /** @param {boolean} hadFailed */
  nudge(hadFailed) {
    this.#reloader.nudge(hadFailed);
  }

  /** What is under way is not taken any more. */
  close() {
    this.#closed = true;
    this.#reloader.close();
    this.#missingTimer?.();
    this.#missingTimer = null;
  }

  /** A message came by the socket: those before it should be there, or come in a moment. */
  checkMissing() {
    if (this.#closed || this.#missingTimer || this.#timeline.missing === null) return;
    this.#missingTimer = this.#context.clock.after(MISSING_MS, () => {
      this.#missingTimer = null;
      if (this.#timeline.missing !== null) this.reload();
    });
  }

  /** The page before the oldest message. @returns {Promise<boolean>} Whether there are still older ones, and room for them. */
  older() {
    if (!this.#paging) {
      this.#paging = this.#older().finally(() => { this.#paging = null; });
      this.#paging.catch(() => {}); // whoever wants to know has the promise
    }
    return this.#paging;
  }

  /** @param {boolean} glance */
  async #load(glance) {
    const { missing } = this.#timeline;
    await this.#reload(glance);
    if (this.#timeline.missing !== missing) this.checkMissing(); // one got lost meanwhile; what the server does not have is not asked for again
  }

  /**
   * Afterwards the newest messages are here, and the receipts of those that are kept.
   * @param {boolean} glance Only the receipts of the last few: polling should cost the server little.
   */
  async #reload(glance) {
    let next = this.loaded ? this.#timeline.stale(glance ? GLANCE_BACK : RELOAD_BACK) : 0;
    for (let loaded = 0; this.loaded && loaded < RELOAD_MOST;) {
      const page = await this.#get({ after: next - 1 }, RELOAD_PAGE);
      if (this.#closed) return;
      this.#owner.take(page.messages, false);
      if (!page.has_more || page.messages.length === 0) return;
      next = page.messages.at(-1).seq + 1;
      loaded += page.messages.length;
    }
    const page = await this.#get({}, PAGE);
    if (this.#closed) return;
    const first = page.messages[0]?.seq ?? 1;
    if (first > next) { // does not join what is here
      this.#timeline.beginAt(first);
      this.hasMore = page.has_more;
    }
    this.#owner.take(page.messages, !this.loaded);
    this.loaded = true;
    this.#owner.changed();
  }

  async #older() {
    if (!this.loaded || !this.hasMore) return false;
    const before = this.#timeline.begin;
    const limit = Math.min(PAGE, this.#context.maxMessages - this.#timeline.size);
    if (limit <= 0) return false; // as many as may be kept: they would push out the newest
    const page = await this.#get({ before }, limit);
    if (before !== this.#timeline.begin) return this.hasMore; // begun anew meanwhile
    this.hasMore = page.has_more;
    this.#timeline.beginAt(page.messages[0]?.seq ?? before);
    this.#owner.take(page.messages, true); // and forgets some of them again if meanwhile there is no room
    this.#owner.changed();
    return this.hasMore;
  }

  /** @param {{ before?: number, after?: number }} place @param {number} most */
  #get(place, most) {
    const limit = this.#size.of(most);
    return this.#size.measure(() => this.#context.http.get("/chat/history", { ...this.#query, ...place, limit }, isHistory));
  }
}
