// The conversations of one participant, newest activity first. Frames are states: each takes the place of its row. After
// anything that may have been missed the rows are loaded again.

import { isInbox } from "./answer.js";
import { Emitter } from "./events.js";
import { PageSize } from "./page-size.js";
import { peerOf } from "./participant.js";
import { Reloader, reportOf } from "./reloader.js";
import { Retrying } from "./retrying.js";
import { LiveSocket } from "./socket.js";

const PAGE = 50;
const MOST_ROWS = 1_000;

/** @typedef {import("./types.js").InboxRow} InboxRow */
/** @typedef {import("./types.js").ServerConversation} ServerConversation */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./errors.js").ChatError} ChatError */
/** @typedef {{ change: void, state: import("./types.js").State, error: ChatError }} InboxEvents */

/** @extends {Emitter<InboxEvents>} */
export class Inbox extends Emitter {
  #context;
  #socket;
  #reloader;
  /** @type {Map<string, InboxRow>} */
  #rows = new Map();
  /** @type {Set<string>} Told by frames since the load under way began: newer than its answer. */
  #fresh = new Set();
  /** @type {readonly InboxRow[] | null} */
  #snapshot = null;
  /** @type {string | null} */
  #next = null;
  #loaded = false;
  #changing = false;
  /** @type {(() => void) | null} */
  #cancelTouch = null;
  #size;
  #retrying;
  #uses = 1; // calls of `Chat.inbox` without their `close`
  #closed = false;
  /** @type {import("./types.js").State} */
  #toldState = "closed";

  /** @param {import("./client.js").Context} context */
  constructor(context) {
    super();
    this.#context = context;
    this.#size = new PageSize(context.clock);
    this.#retrying = new Retrying(() => { this.#changed(); context.retryingChanged(); }, context.recovered);
    const failed = (/** @type {Work} */ work, /** @type {ChatError} */ error) => {
      this.#retrying.failed(work, error);
      context.trouble(work, error);
    };
    const over = (/** @type {Work} */ work) => this.#retrying.over(work);
    this.#reloader = new Reloader(context, {
      load: () => this.#reload(),
      ...reportOf("inbox", { failed, over, refused: (error) => this.emit("error", error), changed: () => this.#showState() }),
    });
    /** @type {() => Record<string, any>} */
    const query = () => ({ location_id: context.location_id, ...context.me });
    this.#socket = new LiveSocket(context, {
      query,
      probe: () => context.http.get("/chat/conversations", { ...this.#whose(), limit: 1 }, isInbox),
      frame: (frame) => this.#frame(frame),
      changed: () => this.#showState(),
      failed, over,
    });
    this.#socket.open();
    this.#reloader.now();
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

  /** Whether there are older ones, for `more()` to load. */
  get hasMore() {
    return this.#next !== null && this.#rows.size < MOST_ROWS;
  }

  /** Unread messages in all rows that are loaded. */
  get unread() {
    return this.rows.reduce((sum, row) => sum + row.unread_count, 0);
  }

  /** @returns {import("./types.js").State} */
  get state() {
    const { state } = this.#socket;
    return state === "live" && this.#reloader.error ? "incomplete" : state;
  }

  /** Why the state is not `live`, as far as is known. */
  get error() {
    return this.#socket.error ?? this.#reloader.error;
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
  more() {
    const loaded = this.#more();
    loaded.catch(() => {}); // whoever wants to know has the promise
    return loaded;
  }

  async #more() {
    if (!this.hasMore) return false;
    const cursor = this.#next;
    const page = await this.#get({ limit: this.#size.of(PAGE), cursor: String(cursor) });
    if (cursor !== this.#next) return this.hasMore; // loaded anew meanwhile
    for (const row of page.conversations) if (!this.#rows.has(row.conversation_id)) this.#put(row);
    this.#next = page.next_cursor;
    this.#changed();
    return this.hasMore;
  }

  /** Ends the use that one call of `chat.inbox` began. With the last use the connection ends. */
  close() {
    if (!this.#closed && --this.#uses <= 0) this.abandon();
  }

  /** For `Chat`: somebody else uses it as well. @internal */
  share() {
    this.#uses++;
  }

  /** For `Chat`: ends it for all. @internal */
  abandon() {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    this.#reloader.close();
    this.#cancelTouch?.();
    this.#retrying.clear();
    this.#context.partsChanged();
  }

  /** For `Chat`: the network or a token is back. @internal */
  hurry() {
    this.#reloader.hurry();
    this.#socket.hurry();
  }

  /** For `Chat`: other work has succeeded. @internal @param {boolean} hadFailed */
  nudge(hadFailed) {
    this.#reloader.nudge(hadFailed);
    this.#socket.nudge(hadFailed);
  }

  /** For `Chat`: a fresh token. @internal @param {string} token */
  offer(token) {
    this.#socket.offer(token);
  }

  /** For `Chat`: a conversation has changed. Where no socket tells what became of its row, it is loaded. @internal */
  touched() {
    if (!this.#socket.isCut || this.#socket.state === "refused" || this.#cancelTouch) return;
    const cancel = this.#context.clock.after(300, () => { this.#cancelTouch = null; this.#reloader.now(); });
    this.#cancelTouch = () => { cancel(); this.#cancelTouch = null; };
  }

  #whose() {
    const { location_id, me, role } = this.#context;
    return role === "service" ? { location_id, ...me } : { location_id };
  }

  /** @param {any} frame */
  #frame(frame) {
    if (frame.type === "conversation") {
      this.#fresh.add(frame.conversation.conversation_id);
      this.#put(frame.conversation);
      this.#changed();
    } else if (frame.type === "presence") {
      this.#context.presence.heard(frame);
    } else if (frame.type === "ready" || frame.type === "resync" || frame.type === "recovered") {
      this.#reloader.now(); // frames are states: there is nothing to replay
    }
  }

  /** The socket's state has changed, or whether the rows could be loaded. */
  #showState() {
    const { state } = this;
    this.#reloader.poll(this.#socket.isCut && state !== "refused");
    if (state !== this.#toldState) {
      this.#toldState = state;
      this.emit("state", state);
    }
    this.#changed();
  }

  /** As many rows as are here, from the newest on. */
  async #reload() {
    const wanted = Math.min(Math.max(this.#rows.size, PAGE), MOST_ROWS);
    this.#fresh.clear();
    /** @type {ServerConversation[]} */
    const rows = [];
    /** @type {string | null} */
    let cursor = null;
    do {
      const page = /** @type {any} */ (await this.#get({
        limit: this.#size.of(Math.min(200, wanted - rows.length)), ...(cursor ? { cursor } : {}),
      }));
      rows.push(...page.conversations);
      cursor = page.next_cursor;
      if (page.conversations.length === 0) break;
    } while (cursor && rows.length < wanted);
    const fresh = [...this.#fresh].flatMap((id) => this.#rows.get(id) ?? []);
    this.#rows.clear();
    for (const row of rows) this.#put(row);
    for (const row of fresh) this.#rows.set(row.conversation_id, row);
    this.#next = cursor;
    this.#loaded = true;
    this.#changed();
  }

  /** @param {{ limit: number, cursor?: string }} place */
  #get(place) {
    return this.#size.measure(() => this.#context.http.get("/chat/conversations", { ...this.#whose(), ...place }, isInbox));
  }

  /** @param {ServerConversation} row */
  #put(row) {
    const { me } = this.#context;
    const { sender_user_id, sender_contact_id } = row.last_message;
    const mine = me.user_id !== undefined ? sender_user_id === me.user_id : sender_contact_id === me.contact_id;
    this.#rows.set(row.conversation_id, Object.freeze({ ...row, peer: peerOf(row, me), mine }));
    if (this.#rows.size > MOST_ROWS) {
      const oldest = [...this.#rows.values()].sort(byActivity).at(-1);
      if (oldest) this.#rows.delete(oldest.conversation_id);
    }
    this.#snapshot = null;
  }

  #changed() {
    this.#snapshot = null;
    if (this.#changing) return;
    this.#changing = true;
    queueMicrotask(() => { this.#changing = false; this.emit("change", undefined); });
  }
}

/** @param {InboxRow} a @param {InboxRow} b */
function byActivity(a, b) {
  if (a.last_activity_at !== b.last_activity_at) return a.last_activity_at < b.last_activity_at ? 1 : -1;
  return a.conversation_id < b.conversation_id ? 1 : -1;
}
