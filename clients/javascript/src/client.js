// `connect`: one participant in one location. It owns what all conversations share (token, HTTP, presence), and tells them
// when the network or a token comes back.

import { completeClock, systemClock } from "./clock.js";
import { Conversation } from "./conversation.js";
import { Credentials } from "./credentials.js";
import { ChatError } from "./errors.js";
import { Emitter } from "./events.js";
import { Http } from "./http.js";
import { Inbox } from "./inbox.js";
import { keyOf, participantOf, readToken } from "./participant.js";
import { PresenceBook } from "./presence.js";
import { WakeWatch } from "./wake.js";

/** @typedef {import("./types.js").Participant} Participant */

/**
 * What the parts share.
 * @typedef {object} Context
 * @property {Http} http
 * @property {string} wsUrl
 * @property {new (url: string, protocols: string[]) => import("./types.js").WebSocketLike} WebSocket
 * @property {Credentials} credentials
 * @property {import("./clock.js").FullClock} clock
 * @property {() => number} random
 * @property {string} location_id
 * @property {Participant} me
 * @property {string} role
 * @property {number} maxMessages
 * @property {PresenceBook} presence
 * @property {(conversation: Conversation) => void} forget It is closed, and nothing of it waits to be sent.
 * @property {() => void} partsChanged Something was closed.
 * @property {(work: import("./types.js").Work, error: ChatError) => void} trouble Something failed that is tried again.
 * @property {() => void} recovered Something that had failed has succeeded.
 * @property {() => void} retryingChanged What is being tried again has changed.
 * @property {(expires_at: string) => void} expiring The token is about to end, and there is no other.
 */

/**
 * @typedef {{
 *   expiring: { expires_at: string },
 *   unauthorized: ChatError,
 *   trouble: ChatError,
 *   retrying: readonly import("./types.js").Retried[],
 *   presence: Participant & { online: boolean | null, last_seen_at: string | null },
 * }} ChatEvents
 * `expiring`: the token is about to end; `unauthorized`: it is refused. Both only when there is no other to be had: give one to
 * `setToken`. `trouble`: something failed, and is tried again. `retrying`: what is tried again has changed. `presence`: `online` is
 * null when it is not known any more.
 */

/** @extends {Emitter<ChatEvents>} */
export class Chat extends Emitter {
  #context;
  /** @type {Map<string, Conversation>} */
  #conversations = new Map();
  /** @type {Inbox | null} */
  #inbox = null;
  #closed = false;
  #wakeWatch;
  /** @type {readonly import("./types.js").Retried[]} */
  #retrying = Object.freeze([]);
  /** @type {string | null} The token of which `unauthorized` told. */
  #unauthorizedToken = null;
  #wake = () => this.#hurry();
  #seen = () => { if (globalThis.document?.visibilityState === "visible") this.#hurry(); };

  /**
   * Use `connect`.
   * @param {Omit<Context, "presence" | "forget" | "partsChanged" | "trouble" | "recovered" | "retryingChanged" | "expiring">} shared
   */
  constructor(shared) {
    super();
    this.#context = /** @type {Context} */ ({
      ...shared,
      presence: new PresenceBook(shared, (who) => this.#presenceChanged(who)),
      forget: (/** @type {Conversation} */ conversation) => this.#forget(conversation),
      partsChanged: () => this.#partsChanged(),
      trouble: (/** @type {import("./types.js").Work} */ work, /** @type {ChatError} */ error) => this.#troubled(work, error),
      recovered: () => this.#nudge(true),
      retryingChanged: () => this.#retryingChanged(),
      expiring: (/** @type {string} */ expires_at) => this.emit("expiring", { expires_at }),
    });
    this.#wakeWatch = new WakeWatch(shared.clock, this.#wake);
    shared.http.succeeded = () => {
      this.#unauthorizedToken = null;
      this.#nudge(false);
    };
    shared.credentials.belongTo(shared.role === "service" ? null : shared.me);
    shared.credentials.listen({
      changed: (token) => { for (const part of this.#parts()) part.offer(token); },
      released: () => this.#hurry(),
    });
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.addEventListener?.("pageshow", this.#wake);
    globalThis.document?.addEventListener("resume", this.#wake);
    globalThis.document?.addEventListener("visibilitychange", this.#seen);
  }

  /** Who this is. */
  get me() {
    return this.#context.me;
  }

  get location_id() {
    return this.#context.location_id;
  }

  /** Messages that the server does not have yet, in all conversations: worth a warning before the page is left. */
  get pending() {
    return [...this.#conversations.values()].reduce((sum, conversation) => sum + conversation.pending, 0);
  }

  /** All that has failed and is being tried again, and why. The same array until something changes. */
  get retrying() {
    return this.#retrying;
  }

  /**
   * The conversation with somebody, opened. The same object for all who ask, until each of them has closed it.
   * @param {{ user_id?: string, contact_id?: string }} peer
   * @returns {Conversation}
   */
  conversation(peer) {
    this.#mustBeOpen();
    const who = participantOf(peer);
    let conversation = this.#conversations.get(keyOf(who));
    if (conversation) conversation.reopen();
    else {
      conversation = new Conversation(this.#context, who);
      conversation.on("change", () => this.#inbox?.touched());
      this.#conversations.set(keyOf(who), conversation);
    }
    this.#partsChanged();
    return conversation;
  }

  /** All conversations. The same object for all who ask, until each of them has closed it. @returns {Inbox} */
  inbox() {
    this.#mustBeOpen();
    if (this.#inbox) this.#inbox.share();
    else this.#inbox = new Inbox(this.#context);
    this.#partsChanged();
    return this.#inbox;
  }

  /**
   * Whether somebody is online; null when the server does not tell.
   * @param {{ user_id?: string, contact_id?: string }} who
   * @returns {Promise<import("./types.js").Presence | null>}
   */
  presence(who) {
    return this.#context.presence.ask(participantOf(who));
  }

  /**
   * What is known of somebody's presence without asking; null when nothing is.
   * @param {{ user_id?: string, contact_id?: string }} who
   * @returns {import("./types.js").Presence | null}
   */
  knownPresence(who) {
    return this.#context.presence.of(participantOf(who));
  }

  /**
   * A fresh token for the same participant, whoever got it. Throws if it can be none.
   * @param {string} token
   */
  setToken(token) {
    this.#context.credentials.set(token);
  }

  /** Ends everything. What was not sent is lost, as `pending` tells before. */
  close() {
    this.#closed = true;
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.removeEventListener?.("pageshow", this.#wake);
    globalThis.document?.removeEventListener("resume", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#seen);
    this.#inbox?.abandon();
    for (const conversation of [...this.#conversations.values()]) conversation.abandon();
    this.#conversations.clear();
    this.#wakeWatch.watch(false);
    this.#context.credentials.close();
  }

  #parts() {
    return [...(this.#inbox ? [this.#inbox] : []), ...this.#conversations.values()];
  }

  #hurry() {
    for (const part of this.#parts()) part.hurry();
  }

  /** @param {boolean} hadFailed What has succeeded now. */
  #nudge(hadFailed) {
    for (const part of this.#parts()) part.nudge(hadFailed);
  }

  /** @param {import("./types.js").Work} work @param {ChatError} error */
  #troubled(work, error) {
    error.work = work;
    const { token } = this.#context.credentials;
    if (error.isUnauthorized && this.#unauthorizedToken !== token) {
      this.#unauthorizedToken = token;
      this.emit("unauthorized", error);
    }
    this.emit("trouble", error);
  }

  #retryingChanged() {
    this.#retrying = Object.freeze([
      ...(this.#inbox?.retrying ?? []),
      ...[...this.#conversations.values()].flatMap(({ peer, retrying }) => retrying.map((one) => Object.freeze({ ...one, peer }))),
    ]);
    this.emit("retrying", this.#retrying);
  }

  /** Only who is connected needs to know that the machine slept. */
  #partsChanged() {
    if (this.#inbox?.isClosed) this.#inbox = null;
    this.#wakeWatch.watch(!this.#closed && this.#parts().length > 0);
  }

  /** @param {Participant} who */
  #presenceChanged(who) {
    const presence = this.#context.presence.of(who);
    this.emit("presence", presence ? { ...who, ...presence } : { ...who, online: null, last_seen_at: null });
    for (const conversation of this.#conversations.values()) conversation.presenceChanged(who);
  }

  /** @param {Conversation} conversation */
  #forget(conversation) {
    const key = keyOf(conversation.peer);
    if (this.#conversations.get(key) === conversation) this.#conversations.delete(key);
    this.#partsChanged();
  }

  #mustBeOpen() {
    if (this.#closed) throw new ChatError("the chat was closed", { code: "closed" });
  }
}

/**
 * Begins. Asks for the first token, to know who this is; needs no network otherwise. Rejects when there is no token to be had
 * within half a minute.
 * @param {import("./types.js").Options} options
 * @returns {Promise<Chat>}
 */
export async function connect(options) {
  const base = (options.url ?? globalThis.location?.origin ?? "").replace(/\/+$/, "");
  if (!/^https?:\/\//.test(base)) throw new TypeError("`url` must begin with http:// or https://");
  const WebSocket = options.WebSocket ?? globalThis.WebSocket;
  if (!WebSocket) throw new TypeError("this platform has no WebSocket: give one as `WebSocket` (Node.js 22 has its own)");
  const clock = completeClock(options.clock ?? systemClock);
  const random = options.random ?? Math.random;
  const credentials = new Credentials(options.token, { clock, random });
  const claims = readToken(await credentials.current());
  const me = options.me ? participantOf(options.me) : claims.me;
  if (!me) throw new ChatError("the token does not say who this is: give `me`", { code: "token" });
  const location_id = options.location_id ?? (claims.locations.length === 1 ? claims.locations[0] : undefined);
  if (!location_id) throw new TypeError("the token is for several locations: give `location_id`");
  return new Chat({
    http: new Http(base, options.fetch ?? ((input, init) => fetch(input, init)), credentials, clock),
    wsUrl: `${base.replace(/^http/, "ws")}/ws`, WebSocket, credentials, clock, random,
    location_id, me, role: claims.role, maxMessages: options.maxMessages ?? 5_000,
  });
}
