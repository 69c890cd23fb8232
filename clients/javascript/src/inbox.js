// The conversations of one participant, newest activity first. Frames are states: each takes the place of its row. After
// anything that may have been missed the rows are loaded again.

import { isInbox } from "./response.js";
import { Emitter } from "./emitter.js";
import { PageSize } from "./page-size.js";
import { getPeer } from "./participant.js";
import { Refetcher, reportLoads } from "./refetcher.js";
import { RetryList } from "./retry-list.js";
import { ReconnectingSocket } from "./reconnecting-socket.js";

const PAGE_SIZE = 50;
const MAX_ROWS = 1_000;

/** @typedef {import("./types.js").InboxRow} InboxRow */
/** @typedef {import("./types.js").ServerConversation} ServerConversation */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./errors.js").ChatError} ChatError */
/** @typedef {{ change: void, state: import("./types.js").State, error: ChatError }} InboxEvents */

/** @extends {Emitter<InboxEvents>} */
export class Inbox extends Emitter {
  #context;
  #socket;
  #refetcher;
  /** @type {Map<string, InboxRow>} */
  #rows = new Map();
  /** @type {Set<string>} Told by frames since the load under way began: newer than its answer. */
  #updatedByFrame = new Set();
  /** @type {readonly InboxRow[] | null} */
  #snapshot = null;
  /** @type {string | null} */
  #nextCursor = null;
  #loaded = false;
  #changeScheduled = false;
  /** @type {(() => void) | null} */
  #cancelInvalidation = null;
  #pageSize;
  #retrying;
  #useCount = 1; // calls of `Chat.inbox` without their `close`
  #closed = false;
  /** @type {import("./types.js").State} */
  #lastState = "closed";

  /** @param {import("./chat.js").Context} context */
  constructor(context) {
    super();
    this.#context = context;
    this.#pageSize = new PageSize(context.clock);
    this.#retrying = new RetryList(() => { this.#scheduleChange(); context.onRetryingChange(); }, context.onRecovered);
    const failed = (/** @type {Work} */ work, /** @type {ChatError} */ error) => {
      this.#retrying.add(work, error);
      context.warn(work, error);
    };
    const done = (/** @type {Work} */ work) => this.#retrying.remove(work);
    this.#refetcher = new Refetcher(context, {
      load: () => this.#fetchRows(),
      ...reportLoads("inbox", { onFailed: failed, onDone: done, onRefused: (error) => this.emit("error", error), onChange: () => this.#updateState() }),
    });
    /** @type {() => Record<string, any>} */
    const query = () => ({ location_id: context.location_id, ...context.me });
    this.#socket = new ReconnectingSocket(context, {
      query,
      probe: () => context.http.get("/chat/conversations", { ...this.#ownerQuery(), limit: 1 }, isInbox),
      onFrame: (frame) => this.#handleFrame(frame),
      onChange: () => this.#updateState(),
      onFailed: failed, onDone: done,
    });
    this.#socket.open();
    this.#refetcher.refetch();
  }

  /** Newest activity first. The same array until something changes. @returns {readonly InboxRow[]} */
  get rows() {
    this.#snapshot ??= Object.freeze([...this.#rows.values()].sort(byActivity));
    return this.#snapshot;
  }

  /** Whether the first page has been loaded. */
  get loaded() {
    return this.#loaded;
  }

  /** Whether there are older ones, for `loadMore()` to load. */
  get hasMore() {
    return this.#nextCursor !== null && this.#rows.size < MAX_ROWS;
  }

  /** Unread messages in all rows that are loaded. */
  get unread() {
    return this.rows.reduce((sum, row) => sum + row.unread_count, 0);
  }

  /** @returns {import("./types.js").State} */
  get state() {
    const { state } = this.#socket;
    return state === "live" && this.#refetcher.error ? "incomplete" : state;
  }

  /** Why the state is not `live`, as far as is known. */
  get error() {
    return this.#socket.error ?? this.#refetcher.error;
  }

  /** What has failed and is being tried again, and why. The same array until something changes. */
  get retrying() {
    return this.#retrying.list;
  }

  /** Whether it was closed. @internal */
  get isClosed() {
    return this.#closed;
  }

  /** Loads the next page. @returns {Promise<boolean>} Whether there are still more. */
  loadMore() {
    const loaded = this.#fetchMore();
    loaded.catch(() => {}); // whoever wants to know has the promise
    return loaded;
  }

  async #fetchMore() {
    if (!this.hasMore) return false;
    const cursor = this.#nextCursor;
    const page = await this.#getPage({ limit: this.#pageSize.limit(PAGE_SIZE), cursor: String(cursor) });
    if (cursor !== this.#nextCursor) return this.hasMore; // loaded anew meanwhile
    for (const row of page.conversations) if (!this.#rows.has(row.conversation_id)) this.#put(row);
    this.#nextCursor = page.next_cursor;
    this.#scheduleChange();
    return this.hasMore;
  }

  /** Ends the use that one call of `chat.inbox` began. With the last use the connection ends. */
  close() {
    if (!this.#closed && --this.#useCount <= 0) this.destroy();
  }

  /** For `Chat`: somebody else uses it as well. @internal */
  addUse() {
    this.#useCount++;
  }

  /** For `Chat`: ends it for all. @internal */
  destroy() {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    this.#refetcher.close();
    this.#cancelInvalidation?.();
    this.#retrying.clear();
    this.#context.onPartClosed();
  }

  /** For `Chat`: the network or a token is back. @internal */
  retryNow() {
    this.#refetcher.retryNow();
    this.#socket.retryNow();
  }

  /** For `Chat`: other work has succeeded. @internal @param {boolean} hadFailed */
  shortenWait(hadFailed) {
    this.#refetcher.shortenWait(hadFailed);
    this.#socket.shortenWait(hadFailed);
  }

  /** For `Chat`: a fresh token. @internal @param {string} token */
  updateToken(token) {
    this.#socket.updateToken(token);
  }

  /** For `Chat`: a conversation has changed. Where no socket tells what became of its row, it is loaded. @internal */
  invalidate() {
    if (!this.#socket.isInterrupted || this.#socket.state === "refused" || this.#cancelInvalidation) return;
    const cancel = this.#context.clock.after(300, () => { this.#cancelInvalidation = null; this.#refetcher.refetch(); });
    this.#cancelInvalidation = () => { cancel(); this.#cancelInvalidation = null; };
  }

  #ownerQuery() {
    const { location_id, me, role } = this.#context;
    return role === "service" ? { location_id, ...me } : { location_id };
  }

  /** @param {any} frame */
  #handleFrame(frame) {
    if (frame.type === "conversation") {
      this.#updatedByFrame.add(frame.conversation.conversation_id);
      this.#put(frame.conversation);
      this.#scheduleChange();
    } else if (frame.type === "presence") {
      this.#context.presence.applyFrame(frame);
    } else if (frame.type === "ready" || frame.type === "resync" || frame.type === "recovered") {
      this.#refetcher.refetch(); // frames are states: there is nothing to replay
    }
  }

  /** The socket's state has changed, or whether the rows could be loaded. */
  #updateState() {
    const { state } = this;
    this.#refetcher.setPolling(this.#socket.isInterrupted && state !== "refused");
    if (state !== this.#lastState) {
      this.#lastState = state;
      this.emit("state", state);
    }
    this.#scheduleChange();
  }

  /** As many rows as are here, from the newest on. */
  async #fetchRows() {
    const wanted = Math.min(Math.max(this.#rows.size, PAGE_SIZE), MAX_ROWS);
    this.#updatedByFrame.clear();
    /** @type {ServerConversation[]} */
    const rows = [];
    /** @type {string | null} */
    let cursor = null;
    do {
      const page = /** @type {any} */ (await this.#getPage({
        limit: this.#pageSize.limit(Math.min(200, wanted - rows.length)), ...(cursor ? { cursor } : {}),
      }));
      rows.push(...page.conversations);
      cursor = page.next_cursor;
      if (page.conversations.length === 0) break;
    } while (cursor && rows.length < wanted);
    const fresh = [...this.#updatedByFrame].flatMap((id) => this.#rows.get(id) ?? []);
    this.#rows.clear();
    for (const row of rows) this.#put(row);
    for (const row of fresh) this.#rows.set(row.conversation_id, row);
    this.#nextCursor = cursor;
    this.#loaded = true;
    this.#scheduleChange();
  }

  /** @param {{ limit: number, cursor?: string }} place */
  #getPage(place) {
    return this.#pageSize.measure(() => this.#context.http.get("/chat/conversations", { ...this.#ownerQuery(), ...place }, isInbox));
  }

  /** @param {ServerConversation} row */
  #put(row) {
    const { me } = this.#context;
    const { sender_user_id, sender_contact_id } = row.last_message;
    const mine = me.user_id !== undefined ? sender_user_id === me.user_id : sender_contact_id === me.contact_id;
    this.#rows.set(row.conversation_id, Object.freeze({ ...row, peer: getPeer(row, me), mine }));
    if (this.#rows.size > MAX_ROWS) {
      const oldest = [...this.#rows.values()].sort(byActivity).at(-1);
      if (oldest) this.#rows.delete(oldest.conversation_id);
    }
    this.#snapshot = null;
  }

  #scheduleChange() {
    this.#snapshot = null;
    if (this.#changeScheduled) return;
    this.#changeScheduled = true;
    queueMicrotask(() => { this.#changeScheduled = false; this.emit("change", undefined); });
  }
}

/** @param {InboxRow} a @param {InboxRow} b */
function byActivity(a, b) {
  if (a.last_activity_at !== b.last_activity_at) return a.last_activity_at < b.last_activity_at ? 1 : -1;
  return a.conversation_id < b.conversation_id ? 1 : -1;
}
