// The conversations of one participant, newest activity first. Each frame carries the whole state of one row, so there is nothing to
// replay. After an interruption the inbox loads its rows again. `InboxRows` bounds its memory.

import { Emitter } from "../emitter.js";
import { ReconnectingSocket } from "../connection/reconnecting-socket.js";
import { reportLoads } from "../retry/load-reporter.js";
import { Refetcher } from "../retry/refetcher.js";
import { RetryList } from "../retry/retry-list.js";
import { InboxLoader } from "./inbox-loader.js";
import { InboxRows } from "./inbox-rows.js";

const INVALIDATION_DELAY_MS = 300; // so that a burst of changes causes one load

/** @extends {Emitter<import("../types.js").InboxEvents>} */
export class Inbox extends Emitter {
  #context;
  #rows;
  #loader;
  #refetcher;
  #socket;
  #retrying;
  #isChangeScheduled = false;
  /** @type {(() => void) | null} */
  #cancelInvalidation = null;
  #useCount = 1; // calls of `Chat.inbox` without their `close`
  #closed = false;
  /** @type {import("../types.js").State} */
  #lastState = "closed";

  /** @param {import("../context.js").Context} context */
  constructor(context) {
    super();
    this.#context = context;
    this.#rows = new InboxRows(context.me);
    this.#loader = new InboxLoader(context, this.#rows, () => this.#scheduleChange());
    this.#retrying = new RetryList({
      onChange: () => { this.#scheduleChange(); context.onRetryingChange(); }, onFailed: context.warn, onRecovered: context.onRecovered,
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

  /** @returns {import("../types.js").State} */
  get state() {
    const { state } = this.#socket;
    return state === "live" && this.#refetcher.error ? "incomplete" : state;
  }

  /** Why the state is not `live`, if the reason is known. */
  get error() {
    return this.#socket.error ?? this.#refetcher.error;
  }

  /** The work that failed and will be retried, with its last error. The same array until something changes. */
  get retrying() {
    return this.#retrying.list;
  }

  /** For `Chat`. @internal */
  get isClosed() {
    return this.#closed;
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
    this.#socket.close();
    this.#refetcher.close();
    this.#cancelInvalidation?.();
    this.#retrying.clear();
    this.#context.onPartClosed();
  }

  /** For `Chat`: the network, the page or a token is back. @internal */
  retryNow() {
    this.#refetcher.retryNow();
    this.#socket.retryNow();
  }

  /** For `Chat`: other work succeeded. @internal @param {boolean} hadFailed */
  shortenWait(hadFailed) {
    this.#refetcher.shortenWait(hadFailed);
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
    const { state } = this;
    this.#refetcher.setPolling(this.#socket.isInterrupted && state !== "refused");
    if (state !== this.#lastState) {
      this.#lastState = state;
      this.emit("state", state);
    }
    this.#scheduleChange();
  }

  #scheduleChange() {
    if (this.#isChangeScheduled) return;
    this.#isChangeScheduled = true;
    queueMicrotask(() => { this.#isChangeScheduled = false; this.emit("change", undefined); });
  }
}
