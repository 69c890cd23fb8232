// `connect` and `Chat`: one participant in one location. A chat owns what its conversations and its inbox share: the token, HTTP and
// presence. It tells them when the network, the page or a token is back.

import { TokenProvider } from "./auth/token-provider.js";
import { readToken } from "./auth/token.js";
import { Network } from "./connection/network.js";
import { Conversation } from "./conversation/conversation.js";
import { Drafts, openDraftStore } from "./drafts.js";
import { Emitter } from "./emitter.js";
import { ChatError, invalidArgument, rejectedPromise, toChatError } from "./errors.js";
import { HttpClient } from "./http/http-client.js";
import { Inbox } from "./inbox/inbox.js";
import { lookUpRow } from "./inbox/row-lookup.js";
import { keyOf, parseParticipant } from "./participants/participant.js";
import { PresenceCache } from "./participants/presence-cache.js";
import { completeClock, systemClock } from "./time/clock.js";
import { WakeDetector } from "./time/wake-detector.js";

/** @typedef {import("./types.js").Participant} Participant */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./context.js").Context} Context */
/** @typedef {{ user_id?: string | undefined, contact_id?: string | undefined }} ParticipantInput */

const DEFAULT_MAX_MESSAGES = 5_000;
const MAX_LEFT_WITH_FAILED = 50; // conversations that no view uses; a user who comes back finds the failed messages
const MIN_RECONNECT_INTERVAL_MS = 1_000;

/** @extends {Emitter<import("./types.js").ChatEvents>} */
export class Chat extends Emitter {
  #context;
  /** @type {Map<string, Conversation>} */
  #conversations = new Map();
  /** @type {Inbox | null} */
  #inbox = null;
  /** @type {import("./inbox/message-feed.js").MessageFeed | null} While the event `message` has a listener. */
  #feed = null;
  #feedUses = 0;
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
    super(["expiring", "unauthorized", "warning", "retrying", "presence", "draft", "message"]);
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
    services.drafts.owner = {
      onChange: (peer, draft) => { this.#conversations.get(keyOf(peer))?.onPeerChange(); this.emit("draft", { peer, draft }); },
      onFailed: (error) => this.#warn("drafts", error),
    };
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

  /** The number of messages on their way, and of failed ones. Warn before the user leaves the page. */
  get pending() {
    return [...this.#conversations.values()].reduce((sum, one) => sum + one.pending + countFailed(one), 0);
  }

  /** All work that failed and will be retried, with its last error. The same array until something changes. */
  get retrying() {
    return this.#retrying;
  }

  /**
   * Calls `listener` for each event `name`, until the page calls the returned function. A listener of `message` opens the inbox.
   * @override
   * @template {keyof import("./types.js").ChatEvents} Name
   * @param {Name} name
   * @param {(detail: import("./types.js").ChatEvents[Name]) => void} listener
   * @returns {() => void}
   */
  on(name, listener) {
    if (name === "message") this.#assertOpen();
    const off = super.on(name, listener);
    if (name !== "message") return off;
    this.#openFeed();
    let isOn = true;
    return () => {
      off();
      if (isOn) this.#closeFeed();
      isOn = false;
    };
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
      const created = new Conversation(this.#context, participant);
      let { messages } = created;
      created.on("change", () => { // a draft or the presence changes no row
        if (messages !== created.messages) this.#inbox?.invalidate();
        ({ messages } = created);
      });
      created.on("message", (message) => this.#feed?.offer(participant, String(created.conversation_id), message));
      conversation = created;
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
    try {
      return this.#context.presence.fetch(parseParticipant(participant));
    } catch (error) {
      return rejectedPromise(toChatError(error, "invalid_argument"));
    }
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
   * The draft for a participant; empty when there is none.
   * @param {ParticipantInput} peer
   */
  draft(peer) {
    return this.#context.drafts.get(parseParticipant(peer));
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

  /** The participant leaves this computer: removes all its drafts, and closes the chat. */
  signOut() {
    this.#context.drafts.removeAll();
    this.close();
  }

  /** Ends everything. Messages that the server has not stored are lost; `pending` counts them. Stored drafts stay. */
  close() {
    this.#closed = true;
    this.#context.drafts.close();
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
      onConversationSettled: (conversation) => this.#removeIfDone(conversation),
      findRow: (peer, isNeedless) => {
        const row = this.#inbox?.findRow(peer);
        return row === undefined ? lookUpRow(services, peer, isNeedless) : row;
      },
      onOwnStored: (peer, seq) => this.#feed?.skip(peer, seq),
      onPartClosed: () => this.#updateParts(),
      warn: (work, error) => this.#warn(work, error),
      onRecovered: () => this.#shortenWaits(true),
      onRetryingChange: () => this.#updateRetrying(),
      onExpiring: (expires_at) => this.emit("expiring", { expires_at }),
    };
  }

  #openFeed() {
    if (this.#feedUses++ > 0) return;
    const open = [...this.#conversations.values()].filter(({ loaded, isDone }) => loaded && !isDone);
    const known = open.map(({ peer, messages }) => ({ peer, seq: Number(messages.findLast(({ seq }) => seq !== null)?.seq ?? 0) }));
    this.#feed = this.inbox().openFeed({
      onMessage: (detail) => this.emit("message", detail),
      isOwn: (peer, id) => this.#conversations.get(keyOf(peer))?.messages.some((one) => one.id === null && one.client_message_id === id) ?? false,
      isOpen: (peer) => (this.#conversations.get(keyOf(peer))?.state ?? "closed") !== "closed",
    }, known);
  }

  #closeFeed() {
    if (--this.#feedUses > 0) return;
    this.#feed = null;
    this.#inbox?.closeFeed();
    this.#inbox?.close();
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
    const isActive = this.#inbox !== null || [...this.#conversations.values()].some(({ isDone }) => !isDone);
    this.#wakeDetector.setEnabled(!this.#closed && isActive);
  }

  /** @param {Participant} participant */
  #updatePresence(participant) {
    const presence = this.#context.presence.get(participant);
    this.emit("presence", presence ? { ...participant, ...presence } : { ...participant, online: null, last_seen_at: null });
    this.#conversations.get(keyOf(participant))?.onPeerChange();
  }

  /** Removes a conversation that no view uses. One with failed messages stays, to show them again. @param {Conversation} conversation */
  #removeIfDone(conversation) {
    if (!conversation.isDone) return;
    const key = keyOf(conversation.peer);
    if (this.#conversations.get(key) === conversation) this.#conversations.delete(key);
    if (!this.#closed && countFailed(conversation) > 0) {
      this.#conversations.set(key, conversation); // the last one to leave
      const left = [...this.#conversations].filter(([, { isDone }]) => isDone);
      if (left.length > MAX_LEFT_WITH_FAILED) this.#conversations.delete(left[0][0]);
    }
    this.#updateParts();
  }

  #assertOpen() {
    if (this.#closed) throw new ChatError("the chat was closed", { code: "closed" });
  }
}

/** The messages that the server refused, and the user did not discard. @param {Conversation} conversation */
function countFailed({ messages }) {
  return messages.filter(({ status }) => status === "failed").length;
}

/**
 * Creates a chat. It asks for the first token, which names the participant, and needs no network otherwise. Rejects when the token
 * source gives no token within half a minute.
 * @param {import("./types.js").Options} options
 * @returns {Promise<Chat>}
 */
export async function connect(options) {
  const given = options ?? {};
  const base = parseUrl(given.url ?? globalThis.location?.origin);
  const WebSocket = given.WebSocket ?? globalThis.WebSocket;
  if (!WebSocket) throw invalidArgument("this platform has no WebSocket: give one as `WebSocket` (Node.js 22 has its own)");
  const maxMessages = given.maxMessages ?? DEFAULT_MAX_MESSAGES;
  if (!Number.isSafeInteger(maxMessages) || maxMessages < 1) throw invalidArgument("`maxMessages` is a whole number from 1 on");
  const draftStore = openDraftStore(given.drafts);
  const clock = completeClock(given.clock ?? systemClock);
  const random = given.random ?? Math.random;
  const givenMe = given.me && parseParticipant(given.me);
  const tokenProvider = new TokenProvider(given.token, { clock, random });
  const claims = readToken(await tokenProvider.getToken());
  const me = givenMe ?? claims.me;
  if (!me) throw invalidArgument("the token names no participant: give `me`");
  const location_id = given.location_id ?? (claims.locations.length === 1 ? claims.locations[0] : undefined);
  if (!location_id) throw invalidArgument("the token does not name exactly one location: give `location_id`");
  const origin = globalThis.location?.origin;
  const network = new Network(clock, origin !== undefined && origin !== new URL(base).origin);
  return new Chat({
    http: new HttpClient(base, given.fetch ?? ((input, init) => fetch(input, init)), tokenProvider, clock, network), network,
    wsUrl: `${base.replace(/^http/, "ws")}/ws`, WebSocket, tokenProvider, clock, random,
    location_id, me, role: claims.role, maxMessages, drafts: new Drafts(draftStore, { base, me, location_id, clock }),
  });
}

/** @param {unknown} given @returns {string} Without a slash at the end. */
function parseUrl(given) {
  try {
    if (typeof given === "string" && ["http:", "https:"].includes(new URL(given).protocol)) return given.replace(/\/+$/, "");
  } catch { /* the error below says what is wrong */ }
  throw invalidArgument("`url` is the address of the chat, and begins with http:// or https://");
}
