// `connect` and `Chat`: one participant in one location. A chat owns what its conversations and its inbox share: the token, HTTP and
// presence. It tells them when the network, the page or a token is back.

import { TokenProvider } from "./auth/token-provider.js";
import { readToken } from "./auth/token.js";
import { Network } from "./connection/network.js";
import { Conversation } from "./conversation/conversation.js";
import { Emitter } from "./emitter.js";
import { ChatError } from "./errors.js";
import { HttpClient } from "./http/http-client.js";
import { Inbox } from "./inbox/inbox.js";
import { keyOf, parseParticipant } from "./participants/participant.js";
import { PresenceCache } from "./participants/presence-cache.js";
import { completeClock, systemClock } from "./time/clock.js";
import { WakeDetector } from "./time/wake-detector.js";

/** @typedef {import("./types.js").Participant} Participant */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./context.js").Context} Context */
/** @typedef {{ user_id?: string, contact_id?: string }} ParticipantInput */

const DEFAULT_MAX_MESSAGES = 5_000;
const MIN_RECONNECT_INTERVAL_MS = 1_000;

/** @extends {Emitter<import("./types.js").ChatEvents>} */
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
  /** @type {string | null} The token of the last `unauthorized` event. */
  #reportedToken = null;
  #reconnectedAt = -Infinity;
  #onWake = () => { this.#context.network.updatePlatform(); this.#retryNow(); };
  #onOffline = () => this.#context.network.updatePlatform();
  #onVisibilityChange = () => { if (globalThis.document?.visibilityState === "visible") this.#retryNow(); };

  /**
   * Use `connect`.
   * @param {import("./context.js").Services} services
   */
  constructor(services) {
    super();
    this.#context = this.#createContext(services);
    this.#wakeDetector = new WakeDetector(services.clock, this.#onWake);
    services.http.onSuccess = () => {
      this.#reportedToken = null;
      this.#shortenWaits(false);
    };
    services.tokenProvider.setOwner(services.role === "service" ? null : services.me);
    services.tokenProvider.addListener({
      onChange: (token) => { for (const part of this.#parts()) part.updateToken(token); },
      onRelease: () => this.#retryNow(),
    });
    services.network.onChange = () => { for (const part of this.#parts()) part.onNetworkChange(); };
    globalThis.addEventListener?.("online", this.#onWake);
    globalThis.addEventListener?.("offline", this.#onOffline);
    globalThis.addEventListener?.("pageshow", this.#onWake);
    globalThis.document?.addEventListener("resume", this.#onWake);
    globalThis.document?.addEventListener("visibilitychange", this.#onVisibilityChange);
  }

  /** The participant who acts. */
  get me() {
    return this.#context.me;
  }

  get location_id() {
    return this.#context.location_id;
  }

  /** The number of messages that the server has not stored yet. Warn before the user leaves the page. */
  get pending() {
    return [...this.#conversations.values()].reduce((sum, conversation) => sum + conversation.pending, 0);
  }

  /** All work that failed and will be retried, with its last error. The same array until something changes. */
  get retrying() {
    return this.#retrying;
  }

  /**
   * Opens the conversation with a participant. All callers get the same object, until each of them has closed it.
   * @param {ParticipantInput} peer
   * @returns {Conversation}
   */
  conversation(peer) {
    this.#assertOpen();
    const participant = parseParticipant(peer);
    const key = keyOf(participant);
    let conversation = this.#conversations.get(key);
    if (conversation) conversation.reopen();
    else {
      conversation = new Conversation(this.#context, participant);
      conversation.on("change", () => this.#inbox?.invalidate());
      this.#conversations.set(key, conversation);
    }
    this.#updateParts();
    return conversation;
  }

  /** Opens the inbox. All callers get the same object, until each of them has closed it. @returns {Inbox} */
  inbox() {
    this.#assertOpen();
    if (this.#inbox) this.#inbox.addUse();
    else this.#inbox = new Inbox(this.#context);
    this.#updateParts();
    return this.#inbox;
  }

  /**
   * Requests the presence of a participant; null when it is unknown.
   * @param {ParticipantInput} participant
   * @returns {Promise<import("./types.js").Presence | null>}
   */
  presence(participant) {
    return this.#context.presence.fetch(parseParticipant(participant));
  }

  /**
   * The presence of a participant as the server last reported it; null when it is unknown.
   * @param {ParticipantInput} participant
   * @returns {import("./types.js").Presence | null}
   */
  cachedPresence(participant) {
    return this.#context.presence.get(parseParticipant(participant));
  }

  /**
   * Gives a fresh token of the same participant. Throws for a token that cannot be valid.
   * @param {string} token
   */
  setToken(token) {
    this.#context.tokenProvider.setToken(token);
  }

  /**
   * Tries everything now that waits for another attempt. For a button: it takes effect once a second at most. The SDK also retries by
   * itself.
   */
  reconnect() {
    const now = this.#context.clock.elapsed();
    const passedMs = now - this.#reconnectedAt;
    if (passedMs >= 0 && passedMs < MIN_RECONNECT_INTERVAL_MS) return;
    this.#reconnectedAt = now;
    this.#context.network.updatePlatform();
    for (const part of this.#parts()) part.retryNow(true);
  }

  /** Ends everything. Messages that the server has not stored are lost; `pending` counts them. */
  close() {
    this.#closed = true;
    globalThis.removeEventListener?.("online", this.#onWake);
    globalThis.removeEventListener?.("offline", this.#onOffline);
    globalThis.removeEventListener?.("pageshow", this.#onWake);
    globalThis.document?.removeEventListener("resume", this.#onWake);
    globalThis.document?.removeEventListener("visibilitychange", this.#onVisibilityChange);
    this.#inbox?.destroy();
    for (const conversation of [...this.#conversations.values()]) conversation.destroy();
    this.#conversations.clear();
    this.#wakeDetector.setEnabled(false);
    this.#context.tokenProvider.close();
  }

  /** @param {import("./context.js").Services} services @returns {Context} */
  #createContext(services) {
    return {
      ...services,
      presence: new PresenceCache(services, (participant) => this.#updatePresence(participant)),
      removeConversation: (conversation) => this.#removeConversation(conversation),
      onPartClosed: () => this.#updateParts(),
      warn: (work, error) => this.#warn(work, error),
      onRecovered: () => this.#shortenWaits(true),
      onRetryingChange: () => this.#updateRetrying(),
      onExpiring: (expires_at) => this.emit("expiring", { expires_at }),
    };
  }

  #parts() {
    return [...(this.#inbox ? [this.#inbox] : []), ...this.#conversations.values()];
  }

  #retryNow() {
    for (const part of this.#parts()) part.retryNow();
  }

  /** Some work succeeded. @param {boolean} hadFailed Whether it had failed before. */
  #shortenWaits(hadFailed) {
    for (const part of this.#parts()) part.shortenWait(hadFailed);
  }

  /** @param {Work} work @param {ChatError} error */
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

  /** The wake detector runs only while a connection can suffer from a sleep. */
  #updateParts() {
    if (this.#inbox?.isClosed) this.#inbox = null;
    this.#wakeDetector.setEnabled(!this.#closed && this.#parts().length > 0);
  }

  /** @param {Participant} participant */
  #updatePresence(participant) {
    const presence = this.#context.presence.get(participant);
    this.emit("presence", presence ? { ...participant, ...presence } : { ...participant, online: null, last_seen_at: null });
    for (const conversation of this.#conversations.values()) conversation.onPresenceChange(participant);
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
 * Creates a chat. It asks for the first token, which names the participant, and needs no network otherwise. Rejects when the token
 * source gives no token within half a minute.
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
  if (!me) throw new ChatError("the token names no participant: give `me`", { code: "token" });
  const location_id = options.location_id ?? (claims.locations.length === 1 ? claims.locations[0] : undefined);
  if (!location_id) throw new TypeError("the token is for several locations: give `location_id`");
  const origin = globalThis.location?.origin;
  const network = new Network(clock, origin !== undefined && origin !== new URL(base).origin);
  return new Chat({
    http: new HttpClient(base, options.fetch ?? ((input, init) => fetch(input, init)), tokenProvider, clock, network), network,
    wsUrl: `${base.replace(/^http/, "ws")}/ws`, WebSocket, tokenProvider, clock, random,
    location_id, me, role: claims.role, maxMessages: options.maxMessages ?? DEFAULT_MAX_MESSAGES,
  });
}
