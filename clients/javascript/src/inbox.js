// The conversations of one participant, newest activity first. Frames are states: each takes the place of its row. After
// anything that may have been missed the rows are loaded again.

import { Emitter } from "./events.js";
import { peerOf } from "./participant.js";
import { Reloader } from "./reloader.js";
import { LiveSocket } from "./socket.js";

const PAGE = 50;
const MOST_ROWS = 1_000;

/** @typedef {import("./types.js").InboxRow} InboxRow */
/** @typedef {import("./types.js").ServerConversation} ServerConversation */
/** @typedef {{ change: void, state: import("./types.js").State, error: import("./errors.js").ChatError }} InboxEvents */

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
  #nudge = null;
  /** @type {import("./errors.js").ChatError | null} */
  #error = null;

  /** @param {import("./client.js").Context} context */
  constructor(context) {
    super();
    this.#context = context;
    this.#reloader = new Reloader(context, () => this.#reload(), (error) => this.#failed(error));
    /** @type {() => Record<string, any>} */
    const query = () => ({ location_id: context.location_id, ...context.me });
    this.#socket = new LiveSocket(context, {
      query,
      probe: () => context.http.get("/chat/conversations", { ...this.#whose(), limit: 1 }),
      frame: (frame) => this.#frame(frame),
      state: (state, error) => this.#state(state, error),
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

  get state() {
    return this.#socket.state;
  }

  /** Why the state is not `live`, as far as is known. */
  get error() {
    return this.#error;
  }

  /** Loads the next page. @returns {Promise<boolean>} Whether there are still more. */
  async more() {
    if (!this.hasMore) return false;
    const cursor = this.#next;
    const page = await this.#context.http.get("/chat/conversations", { ...this.#whose(), limit: PAGE, cursor: String(cursor) });
    if (cursor !== this.#next) return this.hasMore; // loaded anew meanwhile
    for (const row of page.conversations) if (!this.#rows.has(row.conversation_id)) this.#put(row);
    this.#next = page.next_cursor;
    this.#changed();
    return this.hasMore;
  }

  /** For `Chat`. @internal */
  close() {
    this.#socket.close();
    this.#reloader.close();
    this.#nudge?.();
  }

  /** For `Chat`: the network or a token is back. @internal */
  hurry() {
    this.#reloader.hurry();
    this.#socket.hurry();
  }

  /** For `Chat`: a fresh token. @internal @param {string} token */
  offer(token) {
    this.#socket.offer(token);
  }

  /** For `Chat`: a conversation has changed. Where no socket tells what became of its row, it is loaded. @internal */
  touched() {
    if (this.state === "live" || this.#nudge) return;
    const cancel = this.#context.clock.after(300, () => { this.#nudge = null; this.#reloader.now(); });
    this.#nudge = () => { cancel(); this.#nudge = null; };
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

  /** @param {import("./types.js").State} state @param {import("./errors.js").ChatError | null} error */
  #state(state, error) {
    this.#error = error;
    this.#reloader.poll(state !== "live" && state !== "closed" && state !== "refused");
    if (state === "refused" && error?.status === 401) this.#context.unauthorized(error);
    this.emit("state", state);
    this.#changed();
  }

  /** @param {import("./errors.js").ChatError} error */
  #failed(error) {
    this.#error = error;
    this.emit("error", error);
    if (error.status === 401) this.#context.unauthorized(error);
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
      const page = /** @type {any} */ (await this.#context.http.get("/chat/conversations",
        { ...this.#whose(), limit: Math.min(200, wanted - rows.length), ...(cursor ? { cursor } : {}) }));
      rows.push(...page.conversations);
      cursor = page.next_cursor;
    } while (cursor && rows.length < wanted);
    const fresh = [...this.#fresh].flatMap((id) => this.#rows.get(id) ?? []);
    this.#rows.clear();
    for (const row of rows) this.#put(row);
    for (const row of fresh) this.#rows.set(row.conversation_id, row);
    this.#next = cursor;
    this.#loaded = true;
    this.#error = this.state === "live" ? null : this.#error;
    this.#changed();
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
