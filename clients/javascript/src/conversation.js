// One conversation: its messages in order, what is sent into it, and who types. It joins what the socket tells, what the
// history holds and what waits to be sent, in such a way that nothing is lost, doubled or out of order.

import { OrderedNotifier } from "./ordered-notifier.js";
import { isHistory, isMessage } from "./response.js";
import { findContentProblem, toWellFormed } from "./content.js";
import { ChatError } from "./errors.js";
import { Emitter } from "./emitter.js";
import { History } from "./history.js";
import { Outbox } from "./outbox.js";
import { conversationQuery, endpointFields, keyOf } from "./participant.js";
import { ReceiptSender } from "./receipt-sender.js";
import { reportLoads } from "./refetcher.js";
import { RetryList } from "./retry-list.js";
import { ReconnectingSocket } from "./reconnecting-socket.js";
import { Timeline } from "./timeline.js";
import { TypingState } from "./typing-state.js";
import { uuidv7 } from "./uuid.js";

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").ServerMessage} ServerMessage */
/** @typedef {import("./types.js").Work} Work */

/**
 * @typedef {{
 *   change: void,
 *   message: Message,
 *   state: import("./types.js").State,
 *   error: ChatError,
 * }} ConversationEvents
 * `change`: something to show has changed; at most once a turn. `message`: one from the other side, or from another of one's own
 * windows, that came after the conversation was opened; once each, by `seq`. `error`: the server refuses to give the messages, or
 * a frame; where that can be tried again it is.
 */

/** @extends {Emitter<ConversationEvents>} */
export class Conversation extends Emitter {
  #context;
  #query;
  #timeline;
  #socket;
  #outbox;
  #receipts;
  #history;
  #notifier;
  #typing;
  #presence;
  #retrying;
  #useCount = 1; // calls of `Chat.conversation` without their `close`
  #closed = false;
  #changeScheduled = false;
  /** @type {import("./types.js").State} */
  #lastState = "closed";

  /**
   * @param {import("./chat.js").Context} context
   * @param {import("./types.js").Participant} peer
   */
  constructor(context, peer) {
    super();
    /** The other side. */
    this.peer = peer;
    this.#context = context;
    this.#query = conversationQuery(context.location_id, context.me, peer);
    this.#timeline = new Timeline(context.me);
    this.#retrying = new RetryList(() => { this.#scheduleChange(); context.onRetryingChange(); }, context.onRecovered);
    const failed = (/** @type {Work} */ work, /** @type {ChatError} */ error) => {
      this.#retrying.add(work, error);
      context.warn(work, error);
    };
    const done = (/** @type {Work} */ work) => this.#retrying.remove(work);
    this.#outbox = new Outbox({
      post: (body) => context.http.post("/chat/send", body, isMessage),
      onSent: (message) => {
        const shown = this.#merge(message).message;
        this.#history.checkForGap();
        return shown;
      },
      onFailed: (entry, error) => { this.#timeline.setSendError(entry.client_message_id, error); this.#scheduleChange(); },
      onWaiting: (error) => failed("send", error),
      onIdle: () => done("send"),
    }, context);
    this.#receipts = new ReceiptSender(context, {
      onMarked: (marked) => {
        for (const { id, delivered_at, read_at } of marked) {
          this.#applyReceipt([id], { ...(delivered_at ? { delivered_at } : {}), ...(read_at ? { read_at } : {}) });
        }
      },
      onWaiting: (error) => failed("receipts", error),
      onDone: () => done("receipts"),
    });
    this.#history = new History(context, this.#query, this.#timeline, {
      mergePage: (messages, isOld) => this.#mergePage(messages, isOld),
      onChange: () => this.#scheduleChange(),
      onIdle: () => this.#notifier.flush(),
      ...reportLoads("history", { onFailed: failed, onDone: done, onRefused: (error) => this.emit("error", error), onChange: () => this.#updateState() }),
    });
    this.#presence = context.presence.watch(peer, { onFailed: (error) => failed("presence", error), onRecovered: () => done("presence") });
    this.#notifier = new OrderedNotifier(context.clock, () => this.#history.firstMissingSeq, (message) => this.emit("message", message));
    this.#typing = new TypingState(context.clock, () => this.#socket.send({ type: "typing" }), () => this.#scheduleChange());
    this.#socket = new ReconnectingSocket(context, {
      query: () => this.#query,
      probe: () => context.http.get("/chat/history", { ...this.#query, limit: 1 }, isHistory),
      onFrame: (frame) => this.#handleFrame(frame),
      onChange: () => this.#updateState(),
      onFailed: failed, onDone: done,
    });
    this.#presence.open();
    this.#socket.open();
    this.#history.refetch(); // not behind the socket: what is there already can be shown at once
  }

  /** What to show: by `seq`, then what is on its way. The same array until something changes. @returns {readonly Message[]} */
  get messages() {
    return this.#timeline.messages;
  }

  /** Whether the newest messages have been loaded. */
  get loaded() {
    return this.#history.loaded;
  }

  /** Whether there are older ones, for `loadOlder()` to load. */
  get hasMore() {
    return this.#history.hasMore;
  }

  /** @returns {import("./types.js").State} */
  get state() {
    const { state } = this.#socket;
    return state === "live" && this.#history.error ? "incomplete" : state;
  }

  /** Why the state is not `live`, as far as is known. */
  get error() {
    return this.#socket.error ?? this.#history.error;
  }

  /** What has failed and is being tried again, and why. The same array until something changes. */
  get retrying() {
    return this.#retrying.list;
  }

  /** Whether the other side is typing. */
  get peerTyping() {
    return this.#typing.active;
  }

  /** The other side's presence; null when the server does not tell. */
  get presence() {
    return this.#context.presence.get(this.peer);
  }

  /** Messages that the server does not have yet. */
  get pending() {
    return this.#outbox.size;
  }

  /**
   * Sends. The message is in `messages` at once; it is tried until the server has it, in the order of the calls.
   * @param {string} text 1 to 8,000 characters. Half a character (a lone surrogate, as of an emoji that was cut) becomes U+FFFD.
   * @returns {Promise<Message>} Resolves once the server has it. Whoever shows `messages` need not wait for it.
   */
  send(text) {
    const { clock } = this.#context;
    const content = toWellFormed(text);
    const problem = findContentProblem(content);
    if (problem) return rejected(new ChatError(problem, { status: 422 }));
    if (this.#closed) return rejected(new ChatError("the conversation was closed", { code: "closed" }));
    if (this.#outbox.isFull) return rejected(new ChatError("too many messages wait to be sent", { code: "outbox_full" }));
    const client_message_id = uuidv7(clock.now());
    this.#timeline.addPending(client_message_id, content, new Date(clock.now()).toISOString());
    this.#typing.resetThrottle();
    this.#scheduleChange();
    return this.#post(client_message_id, content);
  }

  /**
   * Tries a failed message again, as the same message.
   * @param {Message} message
   * @returns {Promise<Message>}
   */
  retry(message) {
    const failed = this.messages.find((one) => one.key === message.key && one.status === "failed");
    if (!failed?.client_message_id) return rejected(new ChatError("there is no such failed message", { code: "closed" }));
    this.#timeline.setSendError(failed.client_message_id, null);
    this.#scheduleChange();
    return this.#post(failed.client_message_id, failed.content);
  }

  /**
   * Takes a message back that has failed, waits behind others, or has been kept from the server at every try so far.
   * @param {Message} message
   * @returns {boolean} false when the server may have it already, from this try or an earlier one: it stays, and is tried again.
   */
  discard(message) {
    const found = this.messages.find((one) => one.key === message.key && one.id === null);
    if (!found?.client_message_id) return false;
    if (found.status === "sending" && !this.#outbox.discard(found.client_message_id)) return false;
    this.#timeline.remove(found.client_message_id);
    this.#scheduleChange();
    return true;
  }

  /**
   * Loads the page before the oldest message in `messages`, and adds it there.
   * @returns {Promise<boolean>} Whether it can add more: there are still older ones, and room for them.
   */
  loadOlder() {
    return this.#history.loadOlder();
  }

  /**
   * Tells the other side that these were read: the given ones, or all received ones in `messages`.
   * @param {readonly Message[]} [which]
   * @returns {Promise<void>} Resolves once the server has noted it.
   */
  markRead(which) {
    if (this.#context.role === "service") return Promise.resolve();
    const wanted = which && new Set(which.map(({ key }) => key));
    const ids = this.#timeline.unread().filter(({ key }) => wanted?.has(key) ?? true).map(({ id }) => String(id));
    return this.#receipts.mark("read", ids);
  }

  /** Tells the other side that somebody types here. Call it on every keystroke; it is passed on now and then. */
  typing() {
    if (this.#context.role !== "service") this.#typing.notifyPeer();
  }

  /**
   * Ends the use that one call of `chat.conversation` began. With the last use the connection ends; messages on their way are
   * still sent.
   */
  close() {
    if (this.#closed || --this.#useCount > 0) return;
    this.#closeParts();
  }

  /** For `Chat`: somebody else uses it as well; or it is back from `close()`, before the last message was sent. @internal */
  reopen() {
    this.#useCount++;
    if (!this.#closed) return;
    this.#closed = false;
    this.#useCount = 1;
    this.#presence.open();
    this.#socket.open();
    this.#receipts.reopen();
    this.#history.refetch();
  }

  /** For `Chat`: ends everything. @internal */
  destroy() {
    if (!this.#closed) this.#closeParts();
    this.#outbox.close();
  }

  /** For `Chat`: the network or a token is back. @internal */
  retryNow() {
    this.#outbox.retryNow();
    this.#receipts.retryNow();
    this.#history.retryNow();
    this.#socket.retryNow();
  }

  /** For `Chat`: other work has succeeded. @internal @param {boolean} hadFailed */
  shortenWait(hadFailed) {
    this.#outbox.shortenWait(hadFailed);
    this.#receipts.shortenWait(hadFailed);
    this.#history.shortenWait(hadFailed);
    this.#presence.shortenWait(hadFailed);
    this.#socket.shortenWait(hadFailed);
  }

  /** For `Chat`: a fresh token. @internal @param {string} token */
  updateToken(token) {
    this.#socket.updateToken(token);
  }

  /** For `Chat`: presence has changed. @internal @param {import("./types.js").Participant} who */
  onPresenceChange(who) {
    if (keyOf(who) === keyOf(this.peer)) this.#scheduleChange();
  }

  /** @param {string} id @param {string} content @returns {Promise<Message>} */
  #post(id, content) {
    const { me, location_id } = this.#context;
    const body = { location_id, content, client_message_id: id, ...endpointFields(me, this.peer) };
    /** @type {Promise<Message>} */
    const sent = new Promise((resolve, reject) => this.#outbox.add({
      client_message_id: id, body,
      settle: (outcome) => {
        if (outcome instanceof ChatError) reject(outcome);
        else resolve(outcome);
        if (this.#closed && this.#outbox.size === 0) this.#context.removeConversation(this);
      },
    }));
    sent.catch(() => {}); // told by the message's status as well
    return sent;
  }

  /** @param {any} frame */
  #handleFrame(frame) {
    switch (frame.type) {
      case "ready":
        // Resumed: what was missed follows. Else it may be anything, and what was loaded before may miss a moment.
        if (frame.resumed !== true) this.#history.refetchNow(); // the server is there again
        this.#presence.refetch();
        break;
      case "message": {
        const { message, isNew } = this.#merge(frame.message);
        if (isNew && !message.mine) this.#typing.stopPeerTyping();
        if (isNew) this.#history.checkForGap();
        if (frame.message.seq === 1) this.#presence.refetch(); // acquainted from now on
        break;
      }
      case "delivered": this.#applyReceipt(frame.message_ids, { delivered_at: frame.delivered_at }); break;
      case "read": this.#applyReceipt(frame.message_ids, { read_at: frame.read_at }); break;
      case "resync": this.#history.refetch(); break;
      case "typing": // not of another of one's own windows
        if (frame.user_id === this.peer.user_id && frame.contact_id === this.peer.contact_id) this.#typing.startPeerTyping();
        break;
      case "presence": this.#context.presence.applyFrame(frame); break;
      case "recovered": this.#presence.refetch(); break; // nothing was told meanwhile
      case "error": this.emit("error", new ChatError(frame.detail, { title: frame.code, code: "frame" })); break;
    }
  }

  /** The socket's state has changed, or whether the history could be loaded. */
  #updateState() {
    const { state } = this;
    const { isInterrupted } = this.#socket;
    const mayRequest = state !== "refused";
    this.#history.setPolling(isInterrupted && mayRequest);
    this.#presence.setFramesAvailable(!isInterrupted, mayRequest);
    if (isInterrupted) this.#typing.stopPeerTyping();
    if (state !== this.#lastState) {
      this.#lastState = state;
      this.emit("state", state);
    }
    this.#scheduleChange();
  }

  #closeParts() {
    this.#closed = true;
    this.#useCount = 0;
    this.#socket.close();
    this.#history.close();
    this.#presence.close();
    this.#notifier.flush();
    this.#receipts.close();
    this.#typing.stopPeerTyping();
    for (const work of /** @type {Work[]} */ (["history", "presence", "token"])) this.#retrying.remove(work);
    if (this.#outbox.size === 0) this.#context.removeConversation(this);
  }

  /**
   * @param {ServerMessage} message
   * @param {boolean} [isOld] It is not announced.
   */
  #merge(message, isOld = false) {
    const merged = this.#timeline.merge(message);
    if (merged.confirms) this.#outbox.confirm(merged.message);
    if (merged.isNew || merged.confirms) {
      if (this.#timeline.trim(this.#context.maxMessages)) this.#history.hasMore = true;
      if (!isOld && merged.isNew && !merged.confirms) this.#notifier.add(merged.message);
    }
    this.#scheduleChange();
    return merged;
  }

  /** @param {string[]} ids @param {{ delivered_at?: string, read_at?: string }} times */
  #applyReceipt(ids, times) {
    if (this.#timeline.applyReceipt(ids, times).length > 0) this.#scheduleChange();
  }

  /** @param {ServerMessage[]} messages @param {boolean} isOld */
  #mergePage(messages, isOld) {
    const arrived = [];
    for (const message of messages) {
      const { message: merged } = this.#merge(message, isOld);
      if (merged.id && !merged.mine && !merged.delivered_at) arrived.push(merged.id);
    }
    // The gateway proves what came by the socket; what came by HTTP is ours to tell.
    if (arrived.length > 0 && this.#context.role !== "service") void this.#receipts.mark("delivered", arrived).catch(() => {});
  }

  #scheduleChange() {
    if (this.#changeScheduled) return;
    this.#changeScheduled = true;
    queueMicrotask(() => { this.#changeScheduled = false; this.emit("change", undefined); });
  }
}

/** @param {ChatError} error @returns {Promise<never>} */
function rejected(error) {
  const promise = Promise.reject(error);
  promise.catch(() => {});
  return promise;
}
