// The conversations of one participant, newest activity first. Each frame carries the whole state of one row, so there is nothing to
// replay. After an interruption the inbox loads its rows again. `InboxRows` bounds its memory.

import { Emitter } from "../emitter.js";
import { PartStatus } from "../connection/part-status.js";
import { ReconnectingSocket } from "../connection/reconnecting-socket.js";
import { reportLoads } from "../retry/load-reporter.js";
import { Refetcher } from "../retry/refetcher.js";
import { RetryList } from "../retry/retry-list.js";
import { InboxLoader } from "./inbox-loader.js";
import { InboxRows } from "./inbox-rows.js";
import { MessageFeed } from "./message-feed.js";

const INVALIDATION_DELAY_MS = 300; // so that a burst of changes causes one load

/** @extends {Emitter<import("../types.js").InboxEvents>} */
export class Inbox extends Emitter {
  #context;
  #rows;
  #loader;
  #refetcher;
  #socket;
  #retrying;
  /** @type {MessageFeed | null} */
  #feed = null;
  #status;
  /** @type {(() => void) | null} */
  #cancelInvalidation = null;
  #useCount = 1; // calls of `Chat.inbox` without their `close`
  #closed = false;

  /** @param {import("../context.js").Context} context */
  constructor(context) {
    super(["change", "state", "error"]);
    this.#context = context;
    this.#status = new PartStatus({
      getSocket: () => this.#socket, getLoadError: () => this.#refetcher.error,
      onState: (state) => this.emit("state", state), onChange: () => this.emit("change", undefined),
    });
    this.#rows = new InboxRows(context.me);
    this.#loader = new InboxLoader(context, this.#rows, () => { this.#updateFeed(); this.#status.scheduleChange(); });
    this.#retrying = new RetryList({
      onChange: () => { this.#status.scheduleChange(); context.onRetryingChange(); }, onFailed: context.warn, onRecovered: context.onRecovered,
    });
    this.#refetcher = new Refetcher(context, {
      load: () => this.#loader.refetch(),
      ...reportLoads("inbox", this.#retrying, { onRefused: (error) => this.emit("error", error), onChange: () => this.#updateState() }),
    });
    /** @type {() => Record<string, any>} */
    const query = () => ({ location_id: context.location_id, ...context.me });
    this.#socket = new ReconnectingSocket(context, this.#retrying, {
      query,
      probe: () => this.#loader.probe(),
      onFrame: (frame) => this.#handleFrame(frame),
      onChange: () => this.#updateState(),
    });
    this.#socket.open();
    this.#refetcher.refetch();
  }

  /** Newest activity first. The same array until something changes. */
  get rows() {
    return this.#rows.list;
  }

  /** Whether the first page is loaded. */
  get loaded() {
    return this.#loader.loaded;
  }

  /** Whether the server has older rows, which `loadMore()` loads. */
  get hasMore() {
    return this.#loader.hasMore;
  }

  /** The number of unread messages in all loaded rows. */
  get unread() {
    return this.rows.reduce((sum, row) => sum + row.unread_count, 0);
  }

  get state() {
    return this.#status.state;
  }

  /** Why the state is not `live`, if the reason is known. */
  get error() {
    return this.#status.error;
  }

  /** When the next attempt to connect is due at the latest, in milliseconds since 1970; null while nothing waits. */
  get retryAt() {
    return this.#status.retryAt;
  }

  /** The work that failed and will be retried, with its last error. The same array until something changes. */
  get retrying() {
    return this.#retrying.list;
  }

  /** For `Chat`. @internal */
  get isClosed() {
    return this.#closed;
  }

  /** For `Chat`: the row of one conversation; null when there is none; undefined when it may be among those that are not loaded. @internal @param {import("../types.js").Participant} peer */
  findRow(peer) {
    return this.#rows.find(peer) ?? (this.#loader.isComplete ? null : undefined);
  }

  /**
   * For `Chat`: announces messages of all conversations from now on.
   * @internal
   * @param {import("./message-feed.js").FeedOwner} owner
   * @param {readonly { peer: import("../types.js").Participant, seq: number }[]} known Up to where the messages of open conversations are old.
   */
  openFeed(owner, known) {
    const loads = reportLoads("history", this.#retrying, { onRefused: () => {}, onChange: () => {} });
    const feed = new MessageFeed(this.#context, owner, () => this.rows, loads);
    for (const { peer, seq } of known) feed.skipUntil(peer, seq);
    this.#feed = feed;
    this.#updateFeed();
    return feed;
  }

  /** For `Chat`. @internal */
  closeFeed() {
    this.#feed?.close();
    this.#feed = null;
    this.#retrying.remove("history");
  }

  /** Loads the next page. @returns {Promise<boolean>} Whether there is another one. */
  loadMore() {
    const loaded = this.#loader.loadMore();
    loaded.catch(() => {}); // a caller that needs the outcome has the promise
    return loaded;
  }

  /** Ends the use that one call of `chat.inbox` began. The last use ends the connection. */
  close() {
    if (!this.#closed && --this.#useCount <= 0) this.destroy();
  }

  /** For `Chat`: another use begins. @internal */
  addUse() {
    this.#useCount++;
  }

  /** For `Chat`: ends everything. @internal */
  destroy() {
    if (this.#closed) return;
    this.#closed = true;
    this.closeFeed();
    this.#socket.close();
    this.#refetcher.close();
    this.#cancelInvalidation?.();
    this.#retrying.clear();
    this.#context.onPartClosed();
  }

  /** For `Chat`: the network, the page or a token is back. @internal @param {boolean} [isForced] The user asks for an attempt. */
  retryNow(isForced) {
    this.#refetcher.retryNow(isForced);
    this.#feed?.retryNow(isForced);
    this.#socket.retryNow(isForced);
  }

  /** For `Chat`. @internal */
  onNetworkChange() {
    this.#socket.onNetworkChange();
  }

  /** For `Chat`: other work succeeded. @internal @param {boolean} hadFailed */
  shortenWait(hadFailed) {
    this.#refetcher.shortenWait(hadFailed);
    this.#feed?.shortenWait(hadFailed);
    this.#socket.shortenWait(hadFailed);
  }

  /** For `Chat`: there is a fresh token. @internal @param {string} token */
  updateToken(token) {
    this.#socket.updateToken(token);
  }

  /** For `Chat`: a conversation changed. Without frames, the inbox loads its rows soon. @internal */
  invalidate() {
    if (!this.#socket.isInterrupted || this.#socket.state === "refused" || this.#cancelInvalidation) return;
    const cancelTimer = this.#context.clock.after(INVALIDATION_DELAY_MS, () => { this.#cancelInvalidation = null; this.#refetcher.refetch(); });
    this.#cancelInvalidation = () => { cancelTimer(); this.#cancelInvalidation = null; };
  }

  #updateFeed() {
    if (this.loaded) this.#feed?.update(this.#loader.isComplete);
  }

  /** @param {any} frame */
  #handleFrame(frame) {
    switch (frame.type) {
      case "conversation": this.#loader.applyFrame(frame.conversation); break;
      case "presence": this.#context.presence.applyFrame(frame); break;
      case "ready":
      case "resync":
      case "recovered": this.#refetcher.refetch(); break;
    }
  }

  /** The socket's state changed, or the error of the loads. */
  #updateState() {
    this.#refetcher.setPolling(this.#socket.isInterrupted && this.state !== "refused");
    this.#status.update();
  }
}
