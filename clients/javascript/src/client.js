// `connect`: one participant in one location. It owns what all conversations share (token, HTTP, presence), and tells them
// when the network or a token comes back.

import { systemClock } from "./clock.js";
import { Conversation } from "./conversation.js";
import { Credentials } from "./credentials.js";
import { ChatError } from "./errors.js";
import { Emitter } from "./events.js";
import { Http } from "./http.js";
import { Inbox } from "./inbox.js";
import { keyOf, participantOf, readToken } from "./participant.js";
import { PresenceBook } from "./presence.js";

/** @typedef {import("./types.js").Participant} Participant */

/**
 * What the parts share.
 * @typedef {object} Context
 * @property {Http} http
 * @property {string} wsUrl
 * @property {new (url: string, protocols: string[]) => import("./types.js").WebSocketLike} WebSocket
 * @property {Credentials} credentials
 * @property {import("./types.js").Clock} clock
 * @property {() => number} random
 * @property {string} location_id
 * @property {Participant} me
 * @property {string} role
 * @property {number} maxMessages
 * @property {PresenceBook} presence
 * @property {(conversation: Conversation) => void} forget It is closed, and nothing of it waits to be sent.
 * @property {(error: ChatError) => void} trouble Something failed that is tried again.
 * @property {(expires_at: string) => void} expiring The token is about to end, and there is no other.
 * @property {(error: ChatError) => void} unauthorized The token is refused, and there is no other.
 */

/**
 * @typedef {{
 *   expiring: { expires_at: string },
 *   unauthorized: ChatError,
 *   trouble: ChatError,
 *   presence: Participant & import("./types.js").Presence,
 * }} ChatEvents
 * `expiring`: the token ends in a minute; `unauthorized`: it has ended. Both only when there is no other to be had: give one to
 * `setToken`. `trouble`: something failed, and is tried again.
 */

/** @extends {Emitter<ChatEvents>} */
export class Chat extends Emitter {
  #context;
  /** @type {Map<string, Conversation>} */
  #conversations = new Map();
  /** @type {Inbox | null} */
  #inbox = null;
  #closed = false;
  #wake = () => this.#hurry();
  #seen = () => { if (globalThis.document?.visibilityState === "visible") this.#hurry(); };

  /** Use `connect`. @param {Omit<Context, "presence" | "forget" | "trouble" | "expiring" | "unauthorized">} shared */
  constructor(shared) {
    super();
    this.#context = /** @type {Context} */ ({
      ...shared,
      presence: new PresenceBook(shared, (who) => this.#presenceChanged(who)),
      forget: (/** @type {Conversation} */ conversation) => this.#forget(conversation),
      trouble: (/** @type {ChatError} */ error) => this.emit("trouble", error),
      expiring: (/** @type {string} */ expires_at) => this.emit("expiring", { expires_at }),
      unauthorized: (/** @type {ChatError} */ error) => this.emit("unauthorized", error),
    });
    this.#context.credentials.onChange((token) => {
      for (const part of this.#parts()) { part.offer(token); part.hurry(); }
    });
    globalThis.addEventListener?.("online", this.#wake);
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

  /**
   * The conversation with somebody, opened. The same object until it is closed.
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
    return conversation;
  }

  /** All conversations. The same object each time. @returns {Inbox} */
  inbox() {
    this.#mustBeOpen();
    this.#inbox ??= new Inbox(this.#context);
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

  /** A fresh token for the same participant, for those who have no callback that gets one. @param {string} token */
  setToken(token) {
    const { me } = readToken(token);
    if (me && keyOf(me) !== keyOf(this.me)) throw new ChatError("the token is somebody else's", { code: "token" });
    this.#context.credentials.set(token);
  }

  /** Ends everything. What was not sent is lost, as `pending` tells before. */
  close() {
    this.#closed = true;
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#seen);
    this.#inbox?.close();
    for (const conversation of [...this.#conversations.values()]) conversation.abandon();
    this.#conversations.clear();
  }

  #parts() {
    return [...(this.#inbox ? [this.#inbox] : []), ...this.#conversations.values()];
  }

  #hurry() {
    for (const part of this.#parts()) part.hurry();
  }

  /** @param {Participant} who */
  #presenceChanged(who) {
    const presence = this.#context.presence.of(who);
    if (presence) this.emit("presence", { ...who, ...presence });
    for (const conversation of this.#conversations.values()) conversation.presenceChanged(who);
  }

  /** @param {Conversation} conversation */
  #forget(conversation) {
    const key = keyOf(conversation.peer);
    if (this.#conversations.get(key) === conversation) this.#conversations.delete(key);
  }

  #mustBeOpen() {
    if (this.#closed) throw new ChatError("the chat was closed", { code: "closed" });
  }
}

/**
 * Begins. Asks for the first token, to know who this is; needs no network otherwise.
 * @param {import("./types.js").Options} options
 * @returns {Promise<Chat>}
 */
export async function connect(options) {
  const base = (options.url ?? globalThis.location?.origin ?? "").replace(/\/+$/, "");
  if (!/^https?:\/\//.test(base)) throw new TypeError("`url` must begin with http:// or https://");
  const WebSocket = options.WebSocket ?? globalThis.WebSocket;
  if (!WebSocket) throw new TypeError("this platform has no WebSocket: give one as `WebSocket` (Node.js 22 has its own)");
  const clock = options.clock ?? systemClock;
  const credentials = new Credentials(options.token);
  const claims = readToken(await credentials.current());
  const me = options.me ? participantOf(options.me) : claims.me;
  if (!me) throw new ChatError("the token does not say who this is: give `me`", { code: "token" });
  const location_id = options.location_id ?? (claims.locations.length === 1 ? claims.locations[0] : undefined);
  if (!location_id) throw new TypeError("the token is for several locations: give `location_id`");
  return new Chat({
    http: new Http(base, options.fetch ?? ((input, init) => fetch(input, init)), credentials, clock),
    wsUrl: `${base.replace(/^http/, "ws")}/ws`, WebSocket, credentials, clock, random: options.random ?? Math.random,
    location_id, me, role: claims.role, maxMessages: options.maxMessages ?? 5_000,
  });
}
