// One conversation: its messages in order, the sending of new ones, and typing. It joins the frames of the socket, the history and the
// outbox. Each message appears once, in order, and none is lost. `Outbox`, `Timeline` and `maxMessages` bound its memory.

import { ChatError, invalidArgument, rejectedPromise } from "../errors.js";
import { Emitter } from "../emitter.js";
import { PartStatus } from "../connection/part-status.js";
import { ReconnectingSocket } from "../connection/reconnecting-socket.js";
import { isHistory } from "../http/shapes.js";
import { conversationQuery } from "../participants/participant.js";
import { reportLoads } from "../retry/load-reporter.js";
import { RetryList } from "../retry/retry-list.js";
import { History } from "./history.js";
import { MessageSender } from "./message-sender.js";
import { OrderedNotifier } from "./ordered-notifier.js";
import { ReceiptSender } from "./receipt-sender.js";
import { Timeline } from "./timeline.js";
import { TypingState } from "./typing-state.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/** @typedef {import("../types.js").Work} Work */

/** @extends {Emitter<import("../types.js").ConversationEvents>} */
export class Conversation extends Emitter {
  #context;
  #query;
  #timeline;
  #socket;
  #sender;
  #receipts;
  #history;
  #notifier;
  #typing;
  #presence;
  #retrying;
  #useCount = 1; // calls of `Chat.conversation` without their `close`
  #closed = false;
  #status;

  /**
   * @param {import("../context.js").Context} context
   * @param {import("../types.js").Participant} peer
   */
  constructor(context, peer) {
    super(["change", "message", "state", "error"]);
    /** The other side. */
    this.peer = peer;
    this.#context = context;
    this.#query = conversationQuery(context.location_id, context.me, peer);
    this.#status = new PartStatus({
      getSocket: () => this.#socket, getLoadError: () => this.#history.error,
      onState: (state) => this.emit("state", state), onChange: () => this.emit("change", undefined),
    });
    this.#timeline = new Timeline(context.me);
    this.#retrying = new RetryList({
      onChange: () => { this.#status.scheduleChange(); context.onRetryingChange(); }, onFailed: context.warn, onRecovered: context.onRecovered,
    });
    this.#sender = this.#createSender();
    this.#receipts = this.#createReceiptSender();
    this.#history = this.#createHistory();
    this.#presence = context.presence.watch(peer, {
      onFailed: (error) => this.#retrying.add("presence", error), onRecovered: () => this.#retrying.remove("presence"),
    });
    this.#notifier = new OrderedNotifier(context.clock, () => this.#history.firstMissingSeq, (message) => this.emit("message", message));
    this.#typing = new TypingState(context.clock, () => this.#socket.send({ type: "typing" }), () => this.#status.scheduleChange());
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

  get state() {
    return this.#status.state;
  }

  /** Why the state is not `live`, if the reason is known. */
  get error() {
    return this.#status.error;
  }

  /** When the next attempt to connect is due at the latest, in milliseconds since 1970; null while nothing waits. */
  get retryAt() {
    return this.#status.retryAt;
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
    return this.#sender.size;
  }

  /** What the participant began to write; empty when there is nothing. */
  get draft() {
    return this.#context.drafts.get(this.peer);
  }

  /** Keeps what the participant writes. `send` removes it when it sends the same text. @param {string} text */
  setDraft(text) {
    this.#context.drafts.set(this.peer, text);
  }

  /**
   * Sends a message. It is in `messages` at once. The SDK retries until the server stores it, in the order of the calls.
   * @param {string} text 1 to 8,000 characters. A lone surrogate, as of an emoji that was cut in two, becomes U+FFFD.
   * @returns {Promise<Message>} Resolves when the server has stored it. A page that shows `messages` need not wait for it.
   */
  send(text) {
    const { sent, isAccepted } = this.#sender.send(text, this.#closed);
    if (!isAccepted) return sent;
    this.#typing.resetThrottle();
    this.#context.drafts.removeSent(this.peer, text);
    return sent;
  }

  /**
   * Sends a failed message again, as the same message.
   * @param {Message} message
   * @returns {Promise<Message>}
   */
  retry(message) {
    return this.#sender.retry(message);
  }

  /**
   * Removes a message that failed, that waits behind others, or that was refused at each attempt so far.
   * @param {Message} message
   * @returns {boolean} false when the server may have stored it, at this attempt or an earlier one. Such a message stays, and the SDK
   *   retries it.
   */
  discard(message) {
    return this.#sender.discard(message);
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
    if (messages !== undefined && !(Array.isArray(messages) && messages.every((one) => typeof one?.key === "string"))) {
      return rejectedPromise(invalidArgument("`markRead` takes messages of `messages`, or nothing"));
    }
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
    this.#sender.close();
  }

  /** For `Chat`: the network, the page or a token is back. @internal @param {boolean} [isForced] The user asks for an attempt. */
  retryNow(isForced) {
    this.#sender.retryNow(isForced);
    this.#receipts.retryNow(isForced);
    this.#history.retryNow(isForced);
    if (isForced) this.#presence.retryNow();
    this.#socket.retryNow(isForced);
  }

  /** For `Chat`. @internal */
  onNetworkChange() {
    this.#socket.onNetworkChange();
  }

  /** For `Chat`: other work succeeded. @internal @param {boolean} hadFailed */
  shortenWait(hadFailed) {
    this.#sender.shortenWait(hadFailed);
    this.#receipts.shortenWait(hadFailed);
    this.#history.shortenWait(hadFailed);
    this.#presence.shortenWait(hadFailed);
    this.#socket.shortenWait(hadFailed);
  }

  /** For `Chat`: there is a fresh token. @internal @param {string} token */
  updateToken(token) {
    this.#socket.updateToken(token);
  }

  /** For `Chat`: the presence of the peer, or the draft, changed. @internal */
  onPeerChange() {
    this.#status.scheduleChange();
  }

  #createSender() {
    return new MessageSender(this.#context, this.peer, this.#timeline, {
      onStored: (message) => {
        const { message: shown } = this.#merge(message);
        this.#history.checkForGap();
        return shown;
      },
      onChange: () => this.#status.scheduleChange(),
      onSettled: () => { if (this.#closed && this.#sender.size === 0) this.#context.removeConversation(this); },
      onWaiting: (error) => this.#retrying.add("send", error),
      onIdle: () => this.#retrying.remove("send"),
    });
  }

  #createReceiptSender() {
    return new ReceiptSender(this.#context, {
      onMarked: (marked) => {
        for (const { id, delivered_at, read_at } of marked) {
          this.#applyReceipt([id], { ...(delivered_at ? { delivered_at } : {}), ...(read_at ? { read_at } : {}) });
        }
      },
      onWaiting: (error) => this.#retrying.add("receipts", error),
      onIdle: () => this.#retrying.remove("receipts"),
    });
  }

  #createHistory() {
    return new History(this.#context, this.#query, this.#timeline, {
      mergePage: (messages, isOld) => this.#mergePage(messages, isOld),
      onChange: () => this.#status.scheduleChange(),
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
    this.#status.update();
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
    if (this.#sender.size === 0) this.#context.removeConversation(this);
  }

  /**
   * @param {ServerMessage} message
   * @param {boolean} [isOld] An old message is not announced.
   */
  #merge(message, isOld = false) {
    const merged = this.#timeline.merge(message);
    if (merged.confirms) this.#sender.confirm(merged.message);
    if (merged.isNew || merged.confirms) {
      if (this.#timeline.trim(this.#context.maxMessages)) this.#history.hasMore = true;
      if (!isOld && merged.isNew && !merged.confirms) this.#notifier.add(merged.message);
    }
    this.#status.scheduleChange();
    return merged;
  }

  /** @param {string[]} ids @param {{ delivered_at?: string, read_at?: string }} times */
  #applyReceipt(ids, times) {
    if (this.#timeline.applyReceipt(ids, times).length > 0) this.#status.scheduleChange();
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
}
