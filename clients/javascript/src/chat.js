// `connect`: one participant in one location. It owns what all conversations share (token, HTTP, presence), and tells them
// when the network or a token comes back.

import { completeClock, systemClock } from "./clock.js";
import { Conversation } from "./conversation.js";
import { TokenProvider } from "./token-provider.js";
import { ChatError } from "./errors.js";
import { Emitter } from "./emitter.js";
import { HttpClient } from "./http-client.js";
import { Inbox } from "./inbox.js";
import { keyOf, parseParticipant, readToken } from "./participant.js";
import { PresenceCache } from "./presence-cache.js";
import { WakeDetector } from "./wake-detector.js";

/** @typedef {import("./types.js").Participant} Participant */

/**
 * What the parts share.
 * @typedef {object} Context
 * @property {HttpClient} http
 * @property {string} wsUrl
 * @property {new (url: string, protocols: string[]) => import("./types.js").WebSocketLike} WebSocket
 * @property {TokenProvider} tokenProvider
 * @property {import("./clock.js").FullClock} clock
 * @property {() => number} random
 * @property {string} location_id
 * @property {Participant} me
 * @property {string} role
 * @property {number} maxMessages
 * @property {PresenceCache} presence
 * @property {(conversation: Conversation) => void} removeConversation It is closed, and nothing of it waits to be sent.
 * @property {() => void} onPartClosed Something was closed.
 * @property {(work: import("./types.js").Work, error: ChatError) => void} warn Something failed that is tried again.
 * @property {() => void} onRecovered Something that had failed has succeeded.
 * @property {() => void} onRetryingChange What is being tried again has changed.
 * @property {(expires_at: string) => void} onExpiring The token is about to end, and there is no other.
 */

/**
 * @typedef {{
 *   expiring: { expires_at: string },
 *   unauthorized: ChatError,
 *   warning: ChatError,
 *   retrying: readonly import("./types.js").Retried[],
 *   presence: Participant & { online: boolean | null, last_seen_at: string | null },
 * }} ChatEvents
 * `expiring`: the token is about to end; `unauthorized`: it is refused. Both only when there is no other to be had: give one to
 * `setToken`. `warning`: something failed, and is tried again. `retrying`: what is tried again has changed. `presence`: `online` is
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
  #wakeDetector;
  /** @type {readonly import("./types.js").Retried[]} */
  #retrying = Object.freeze([]);
  /** @type {string | null} The token of which `unauthorized` told. */
  #reportedToken = null;
  #onWake = () => this.#retryNow();
  #onVisibilityChange = () => { if (globalThis.document?.visibilityState === "visible") this.#retryNow(); };

  /**
   * Use `connect`.
   * @param {Omit<Context, "presence" | "removeConversation" | "onPartClosed" | "warn" | "onRecovered" | "onRetryingChange" | "onExpiring">} shared
   */
  constructor(shared) {
    super();
    this.#context = /** @type {Context} */ ({
      ...shared,
      presence: new PresenceCache(shared, (who) => this.#updatePresence(who)),
      removeConversation: (/** @type {Conversation} */ conversation) => this.#removeConversation(conversation),
      onPartClosed: () => this.#updateParts(),
      warn: (/** @type {import("./types.js").Work} */ work, /** @type {ChatError} */ error) => this.#warn(work, error),
      onRecovered: () => this.#shortenWait(true),
      onRetryingChange: () => this.#updateRetrying(),
      onExpiring: (/** @type {string} */ expires_at) => this.emit("expiring", { expires_at }),
    });
    this.#wakeDetector = new WakeDetector(shared.clock, this.#onWake);
    shared.http.onSuccess = () => {
      this.#reportedToken = null;
      this.#shortenWait(false);
    };
    shared.tokenProvider.setOwner(shared.role === "service" ? null : shared.me);
    shared.tokenProvider.addListener({
      onChange: (token) => { for (const part of this.#parts()) part.updateToken(token); },
      onRelease: () => this.#retryNow(),
    });
    globalThis.addEventListener?.("online", this.#onWake);
    globalThis.addEventListener?.("pageshow", this.#onWake);
    globalThis.document?.addEventListener("resume", this.#onWake);
    globalThis.document?.addEventListener("visibilitychange", this.#onVisibilityChange);
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
    this.#assertOpen();
    const who = parseParticipant(peer);
    let conversation = this.#conversations.get(keyOf(who));
    if (conversation) conversation.reopen();
    else {
      conversation = new Conversation(this.#context, who);
      conversation.on("change", () => this.#inbox?.invalidate());
      this.#conversations.set(keyOf(who), conversation);
    }
    this.#updateParts();
    return conversation;
  }

  /** All conversations. The same object for all who ask, until each of them has closed it. @returns {Inbox} */
  inbox() {
    this.#assertOpen();
    if (this.#inbox) this.#inbox.addUse();
    else this.#inbox = new Inbox(this.#context);
    this.#updateParts();
    return this.#inbox;
  }

  /**
   * Whether somebody is online; null when the server does not tell.
   * @param {{ user_id?: string, contact_id?: string }} who
   * @returns {Promise<import("./types.js").Presence | null>}
   */
  presence(who) {
    return this.#context.presence.fetch(parseParticipant(who));
  }

  /**
   * What is known of somebody's presence without asking; null when nothing is.
   * @param {{ user_id?: string, contact_id?: string }} who
   * @returns {import("./types.js").Presence | null}
   */
  cachedPresence(who) {
    return this.#context.presence.get(parseParticipant(who));
  }

  /**
   * A fresh token for the same participant, whoever got it. Throws if it can be none.
   * @param {string} token
   */
  setToken(token) {
    this.#context.tokenProvider.setToken(token);
  }

  /** Ends everything. What was not sent is lost, as `pending` tells before. */
  close() {
    this.#closed = true;
    globalThis.removeEventListener?.("online", this.#onWake);
    globalThis.removeEventListener?.("pageshow", this.#onWake);
    globalThis.document?.removeEventListener("resume", this.#onWake);
    globalThis.document?.removeEventListener("visibilitychange", this.#onVisibilityChange);
    this.#inbox?.destroy();
    for (const conversation of [...this.#conversations.values()]) conversation.destroy();
    this.#conversations.clear();
    this.#wakeDetector.setEnabled(false);
    this.#context.tokenProvider.close();
  }

  #parts() {
    return [...(this.#inbox ? [this.#inbox] : []), ...this.#conversations.values()];
  }

  #retryNow() {
    for (const part of this.#parts()) part.retryNow();
  }

  /** @param {boolean} hadFailed What has succeeded now. */
  #shortenWait(hadFailed) {
    for (const part of this.#parts()) part.shortenWait(hadFailed);
  }

  /** @param {import("./types.js").Work} work @param {ChatError} error */
  #warn(work, error) {
    error.work = work;
    const { token } = this.#context.tokenProvider;
    if (error.isUnauthorized && this.#reportedToken !== token) {
      this.#reportedToken = token;
      this.emit("unauthorized", error);
    }
    this.emit("warning", error);
  }

  #updateRetrying() {
    this.#retrying = Object.freeze([
      ...(this.#inbox?.retrying ?? []),
      ...[...this.#conversations.values()].flatMap(({ peer, retrying }) => retrying.map((one) => Object.freeze({ ...one, peer }))),
    ]);
    this.emit("retrying", this.#retrying);
  }

  /** Only who is connected needs to know that the machine slept. */
  #updateParts() {
    if (this.#inbox?.isClosed) this.#inbox = null;
    this.#wakeDetector.setEnabled(!this.#closed && this.#parts().length > 0);
  }

  /** @param {Participant} who */
  #updatePresence(who) {
    const presence = this.#context.presence.get(who);
    this.emit("presence", presence ? { ...who, ...presence } : { ...who, online: null, last_seen_at: null });
    for (const conversation of this.#conversations.values()) conversation.onPresenceChange(who);
  }

  /** @param {Conversation} conversation */
  #removeConversation(conversation) {
    const key = keyOf(conversation.peer);
    if (this.#conversations.get(key) === conversation) this.#conversations.delete(key);
    this.#updateParts();
  }

  #assertOpen() {
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
  const tokenProvider = new TokenProvider(options.token, { clock, random });
  const claims = readToken(await tokenProvider.getToken());
  const me = options.me ? parseParticipant(options.me) : claims.me;
  if (!me) throw new ChatError("the token does not say who this is: give `me`", { code: "token" });
  const location_id = options.location_id ?? (claims.locations.length === 1 ? claims.locations[0] : undefined);
  if (!location_id) throw new TypeError("the token is for several locations: give `location_id`");
  return new Chat({
    http: new HttpClient(base, options.fetch ?? ((input, init) => fetch(input, init)), tokenProvider, clock),
    wsUrl: `${base.replace(/^http/, "ws")}/ws`, WebSocket, tokenProvider, clock, random,
    location_id, me, role: claims.role, maxMessages: options.maxMessages ?? 5_000,
  });
}
