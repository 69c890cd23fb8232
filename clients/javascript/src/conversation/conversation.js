// One conversation: its messages in order, the sending of new ones, and typing. It joins the frames of the socket, the history and the
// outbox. Each message appears once, in order, and none is lost. `Outbox`, `Timeline` and `maxMessages` bound its memory.

import { ChatError, rejectedPromise } from "../errors.js";
import { Emitter } from "../emitter.js";
import { ReconnectingSocket } from "../connection/reconnecting-socket.js";
import { isHistory, isMessage } from "../http/shapes.js";
import { conversationQuery, endpointFields, keyOf } from "../participants/participant.js";
import { reportLoads } from "../retry/load-reporter.js";
import { RetryList } from "../retry/retry-list.js";
import { findContentProblem, toWellFormed } from "./content.js";
import { History } from "./history.js";
import { OrderedNotifier } from "./ordered-notifier.js";
import { Outbox } from "./outbox.js";
import { ReceiptSender } from "./receipt-sender.js";
import { Timeline } from "./timeline.js";
import { TypingState } from "./typing-state.js";
import { uuidv7 } from "./uuid.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/** @typedef {import("../types.js").Work} Work */

/** @extends {Emitter<import("../types.js").ConversationEvents>} */
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
  #isChangeScheduled = false;
  /** @type {import("../types.js").State} */
  #lastState = "closed";

  /**
   * @param {import("../context.js").Context} context
   * @param {import("../types.js").Participant} peer
   */
  constructor(context, peer) {
    super();
    /** The other side. */
    this.peer = peer;
    this.#context = context;
    this.#query = conversationQuery(context.location_id, context.me, peer);
    this.#timeline = new Timeline(context.me);
    this.#retrying = new RetryList({
      onChange: () => { this.#scheduleChange(); context.onRetryingChange(); }, onFailed: context.warn, onRecovered: context.onRecovered,
    });
    this.#outbox = this.#createOutbox();
    this.#receipts = this.#createReceiptSender();
    this.#history = this.#createHistory();
    this.#presence = context.presence.watch(peer, {
      onFailed: (error) => this.#retrying.add("presence", error), onRecovered: () => this.#retrying.remove("presence"),
    });
    this.#notifier = new OrderedNotifier(context.clock, () => this.#history.firstMissingSeq, (message) => this.emit("message", message));
    this.#typing = new TypingState(context.clock, () => this.#socket.send({ type: "typing" }), () => this.#scheduleChange());
    this.#socket = this.#createSocket();
    this.#presence.open();
    this.#socket.open();
    this.#history.refetch(); // without waiting for the socket: the page shows stored messages at once
  }

  /** The messages to show: by `seq`, then those on their way. The same array until something changes. @returns {readonly Message[]} */
  get messages() {
    return this.#timeline.messages;
  }

  /** Whether the newest messages are loaded. */
  get loaded() {
    return this.#history.loaded;
  }

  /** Whether the server has older messages, which `loadOlder()` loads. */
  get hasMore() {
    return this.#history.hasMore;
  }

  /** @returns {import("../types.js").State} */
  get state() {
    const { state } = this.#socket;
    return state === "live" && this.#history.error ? "incomplete" : state;
  }

  /** Why the state is not `live`, if the reason is known. */
  get error() {
    return this.#socket.error ?? this.#history.error;
  }

  /** The work that failed and will be retried, with its last error. The same array until something changes. */
  get retrying() {
    return this.#retrying.list;
  }

  /** Whether the peer is typing. */
  get peerTyping() {
    return this.#typing.isPeerTyping;
  }

  /** The peer's presence; null when it is unknown. */
  get presence() {
    return this.#context.presence.get(this.peer);
  }

  /** The number of messages that the server has not stored yet. */
  get pending() {
    return this.#outbox.size;
  }

  /**
   * Sends a message. It is in `messages` at once. The SDK retries until the server stores it, in the order of the calls.
   * @param {string} text 1 to 8,000 characters. A lone surrogate, as of an emoji that was cut in two, becomes U+FFFD.
   * @returns {Promise<Message>} Resolves when the server has stored it. A page that shows `messages` need not wait for it.
   */
  send(text) {
    const { clock } = this.#context;
    const content = toWellFormed(text);
    const problem = findContentProblem(content);
    if (problem) return rejectedPromise(new ChatError(problem, { status: 422 }));
    if (this.#closed) return rejectedPromise(new ChatError("the conversation was closed", { code: "closed" }));
    if (this.#outbox.isFull) return rejectedPromise(new ChatError("too many messages wait to be sent", { code: "outbox_full" }));
    const client_message_id = uuidv7(clock.now());
    this.#timeline.addPending(client_message_id, content, new Date(clock.now()).toISOString());
    this.#typing.resetThrottle();
    this.#scheduleChange();
    return this.#post(client_message_id, content);
  }

  /**
   * Sends a failed message again, as the same message.
   * @param {Message} message
   * @returns {Promise<Message>}
   */
  retry(message) {
    const failed = this.messages.find((one) => one.key === message.key && one.status === "failed");
    if (!failed?.client_message_id) return rejectedPromise(new ChatError("there is no such failed message", { code: "closed" }));
    this.#timeline.setSendError(failed.client_message_id, null);
    this.#scheduleChange();
    return this.#post(failed.client_message_id, failed.content);
  }

  /**
   * Removes a message that failed, that waits behind others, or that was refused at each attempt so far.
   * @param {Message} message
   * @returns {boolean} false when the server may have stored it, at this attempt or an earlier one. Such a message stays, and the SDK
   *   retries it.
   */
  discard(message) {
    const found = this.messages.find((one) => one.key === message.key && one.id === null);
    if (!found?.client_message_id) return false;
    if (found.status === "sending" && !this.#outbox.discard(found.client_message_id)) return false;
    this.#timeline.removePending(found.client_message_id);
    this.#scheduleChange();
    return true;
  }

  /**
   * Loads the page before the oldest message in `messages`, and adds it there.
   * @returns {Promise<boolean>} Whether a further call can add more: the server has older messages, and there is room for them.
   */
  loadOlder() {
    return this.#history.loadOlder();
  }

  /**
   * Marks messages as read: the given ones, or all received ones in `messages`.
   * @param {readonly Message[]} [messages]
   * @returns {Promise<void>} Resolves when the server has stored it.
   */
  markRead(messages) {
    if (this.#context.role === "service") return Promise.resolve();
    const keys = messages && new Set(messages.map(({ key }) => key));
    const ids = this.#timeline.unread().filter(({ key }) => keys?.has(key) ?? true).map(({ id }) => String(id));
    return this.#receipts.mark("read", ids);
  }

  /** Call it on every keystroke. The SDK notifies the peer every two seconds at most. */
  typing() {
    if (this.#context.role !== "service") this.#typing.notifyPeer();
  }

  /**
   * Ends the use that one call of `chat.conversation` began. The last use ends the connection. Messages on their way are still sent.
   */
  close() {
    if (this.#closed || --this.#useCount > 0) return;
    this.#closeParts();
  }

  /** For `Chat`: another use begins, perhaps after `close()` and before the last message was sent. @internal */
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

  /** For `Chat`: the network, the page or a token is back. @internal */
  retryNow() {
    this.#outbox.retryNow();
    this.#receipts.retryNow();
    this.#history.retryNow();
    this.#socket.retryNow();
  }

  /** For `Chat`: other work succeeded. @internal @param {boolean} hadFailed */
  shortenWait(hadFailed) {
    this.#outbox.shortenWait(hadFailed);
    this.#receipts.shortenWait(hadFailed);
    this.#history.shortenWait(hadFailed);
    this.#presence.shortenWait(hadFailed);
    this.#socket.shortenWait(hadFailed);
  }

  /** For `Chat`: there is a fresh token. @internal @param {string} token */
  updateToken(token) {
    this.#socket.updateToken(token);
  }

  /** For `Chat`: the presence of a participant changed. @internal @param {import("../types.js").Participant} participant */
  onPresenceChange(participant) {
    if (keyOf(participant) === keyOf(this.peer)) this.#scheduleChange();
  }

  #createOutbox() {
    return new Outbox({
      post: (body) => this.#context.http.post("/chat/send", body, isMessage),
      onSent: (message) => {
        const { message: shown } = this.#merge(message);
        this.#history.checkForGap();
        return shown;
      },
      onFailed: (entry, error) => { this.#timeline.setSendError(entry.client_message_id, error); this.#scheduleChange(); },
      onWaiting: (error) => this.#retrying.add("send", error),
      onIdle: () => this.#retrying.remove("send"),
    }, this.#context);
  }

  #createReceiptSender() {
    return new ReceiptSender(this.#context, {
      onMarked: (marked) => {
        for (const { id, delivered_at, read_at } of marked) {
          this.#applyReceipt([id], { ...(delivered_at ? { delivered_at } : {}), ...(read_at ? { read_at } : {}) });
        }
      },
      onWaiting: (error) => this.#retrying.add("receipts", error),
      onDone: () => this.#retrying.remove("receipts"),
    });
  }

  #createHistory() {
    return new History(this.#context, this.#query, this.#timeline, {
      mergePage: (messages, isOld) => this.#mergePage(messages, isOld),
      onChange: () => this.#scheduleChange(),
      onIdle: () => this.#notifier.flush(),
      ...reportLoads("history", this.#retrying, { onRefused: (error) => this.emit("error", error), onChange: () => this.#updateState() }),
    });
  }

  #createSocket() {
    return new ReconnectingSocket(this.#context, this.#retrying, {
      query: () => this.#query,
      probe: () => this.#context.http.get("/chat/history", { ...this.#query, limit: 1 }, isHistory),
      onFrame: (frame) => this.#handleFrame(frame),
      onChange: () => this.#updateState(),
    });
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
    sent.catch(() => {}); // the status of the message shows the failure as well
    return sent;
  }

  /** @param {any} frame */
  #handleFrame(frame) {
    switch (frame.type) {
      case "ready":
        // After a resume the missed frames follow. Otherwise anything may have been missed, and the loaded messages may have a gap.
        if (frame.resumed !== true) this.#history.refetchNow();
        this.#presence.refetch();
        break;
      case "message": this.#handleMessage(frame.message); break;
      case "delivered": this.#applyReceipt(frame.message_ids, { delivered_at: frame.delivered_at }); break;
      case "read": this.#applyReceipt(frame.message_ids, { read_at: frame.read_at }); break;
      case "resync": this.#history.refetch(); break;
      case "typing": // frames of the participant's own other windows do not count
        if (frame.user_id === this.peer.user_id && frame.contact_id === this.peer.contact_id) this.#typing.startPeerTyping();
        break;
      case "presence": this.#context.presence.applyFrame(frame); break;
      case "recovered": this.#presence.refetch(); break; // no presence frames came during the interruption
      case "error": this.emit("error", new ChatError(frame.detail, { title: frame.code, code: "frame" })); break;
    }
  }

  /** @param {ServerMessage} serverMessage */
  #handleMessage(serverMessage) {
    const { message, isNew } = this.#merge(serverMessage);
    if (isNew && !message.mine) this.#typing.stopPeerTyping();
    if (isNew) this.#history.checkForGap();
    if (serverMessage.seq === 1) this.#presence.refetch(); // the first message makes the peer's presence visible
  }

  /** The socket's state changed, or the history's error. */
  #updateState() {
    const { state } = this;
    const { isInterrupted } = this.#socket;
    const mayPoll = state !== "refused";
    this.#history.setPolling(isInterrupted && mayPoll);
    this.#presence.setFramesAvailable(!isInterrupted, mayPoll);
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
   * @param {boolean} [isOld] An old message is not announced.
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
    const received = [];
    for (const message of messages) {
      const { message: merged } = this.#merge(message, isOld);
      if (merged.id && !merged.mine && !merged.delivered_at) received.push(merged.id);
    }
    // The gateway confirms the delivery of frames. The delivery of a page is for the client to confirm.
    if (received.length > 0 && this.#context.role !== "service") void this.#receipts.mark("delivered", received).catch(() => {});
  }

  #scheduleChange() {
    if (this.#isChangeScheduled) return;
    this.#isChangeScheduled = true;
    queueMicrotask(() => { this.#isChangeScheduled = false; this.emit("change", undefined); });
  }
}
