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
import { IncomingMessages } from "./incoming-messages.js";
import { OutgoingMessages } from "./outgoing-messages.js";
import { Timeline } from "./timeline.js";
import { TypingState } from "./typing-state.js";
import { UnreadMessages } from "./unread-messages.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/** @typedef {import("../types.js").Work} Work */

/** @extends {Emitter<import("../types.js").ConversationEvents>} */
export class Conversation extends Emitter {
  #context;
  #query;
  #timeline;
  #socket;
  #outgoing;
  #incoming;
  #receipts;
  #history;
  #unread;
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
    this.#outgoing = this.#createOutgoing();
    this.#incoming = this.#createIncoming();
    this.#receipts = this.#incoming.receipts;
    this.#unread = new UnreadMessages(context, this.#query, this.#timeline, {
      findRow: (isNeedless) => (context.role === "service" ? null : context.findRow(peer, isNeedless)),
      isLoaded: () => this.#history.loaded,
      mark: (ids) => this.#receipts.mark("read", ids),
      onChange: () => this.#status.scheduleChange(),
    });
    this.#history = this.#createHistory();
    this.#presence = context.presence.watch(peer, {
      onFailed: (error) => this.#retrying.add("presence", error), onRecovered: () => this.#retrying.remove("presence"),
    });
    this.#typing = new TypingState(context.clock, () => this.#socket.send({ type: "typing" }), () => this.#status.scheduleChange());
    this.#socket = this.#createSocket();
    this.#presence.open();
    this.#socket.open();
    this.#unread.open();
    this.#history.refetch(); // without waiting for the socket: the page shows stored messages at once
  }

  /** The server's id of the conversation; null before its first message. */
  get conversation_id() {
    return this.#incoming.conversation_id;
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
    return this.#outgoing.size;
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
    const { sent, isAccepted } = this.#outgoing.send(text, this.#closed);
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
    return this.#outgoing.retry(message);
  }

  /**
   * Removes a message that failed, that waits behind others, or that was refused at each attempt so far.
   * @param {Message} message
   * @returns {boolean} false when the server may have stored it, at this attempt or an earlier one. Such a message stays, and the SDK
   *   retries it.
   */
  discard(message) {
    return this.#outgoing.discard(message);
  }

  /**
   * Loads the page before the oldest message in `messages`, and adds it there.
   * @returns {Promise<boolean>} Whether a further call can add more: the server has older messages, and there is room for them.
   */
  loadOlder() {
    return this.#history.loadOlder();
  }

  /**
   * Loads older pages until the message with this `seq` is in `messages`.
   * @param {number} seq
   * @returns {Promise<boolean>} Whether it is: false when it does not exist or there is no room for so many.
   */
  loadUntil(seq) {
    if (!Number.isSafeInteger(seq) || seq < 1) return rejectedPromise(invalidArgument("`seq` is a whole number from 1 on"));
    const loaded = this.#history.loadUntil(seq);
    loaded.catch(() => {}); // a caller that needs the outcome has the promise
    return loaded;
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

  /**
   * `seq` of the first message that was unread when the conversation opened; null when there was none; undefined until it is known. It
   * may be older than `messages`: see `loadUntil`.
   */
  get firstUnread() {
    return this.#unread.firstUnread;
  }

  /** Sets `firstUnread` to the first message that is unread now, for a page that comes back to the foreground. */
  resetFirstUnread() {
    this.#unread.reset();
  }

  /**
   * Marks all messages as read that are unread now, loaded or not. It is safe to call again.
   * @param {{ onProgress?: (progress: { marked: number, total: number | null }) => void }} [options]
   * @returns {Promise<number>} How many it marked. Rejects when a page cannot be loaded, or when the conversation closes.
   */
  markAllRead(options) {
    const onProgress = options?.onProgress ?? (() => {});
    if (typeof onProgress !== "function") return rejectedPromise(invalidArgument("`onProgress` is a function"));
    return this.#context.role === "service" ? Promise.resolve(0) : this.#unread.markAll(onProgress);
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
    this.#unread.open();
    this.#history.refetch();
  }

  /** For `Chat`: no view uses it, and nothing waits to be sent. @internal */
  get isDone() {
    return this.#closed && this.#outgoing.size === 0;
  }

  /** For `Chat`: ends everything. @internal */
  destroy() {
    if (!this.#closed) this.#closeParts();
    this.#outgoing.close();
  }

  /** For `Chat`: the network, the page or a token is back. @internal @param {boolean} [isForced] The user asks for an attempt. */
  retryNow(isForced) {
    this.#outgoing.retryNow(isForced);
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
    this.#outgoing.shortenWait(hadFailed);
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

  #createOutgoing() {
    return new OutgoingMessages(this.#context, this.peer, this.#timeline, {
      onStored: (message) => this.#incoming.add(message).message,
      onChange: () => this.#status.scheduleChange(),
      onSettled: () => this.#context.onConversationSettled(this),
      onWaiting: (error) => this.#retrying.add("send", error),
      onIdle: () => this.#retrying.remove("send"),
    });
  }

  #createIncoming() {
    return new IncomingMessages(this.#context, this.#timeline, {
      getHistory: () => this.#history,
      onConfirmed: (message) => { this.#outgoing.confirm(message); this.#context.onOwnStored(this.peer, Number(message.seq)); },
      onNew: (message) => this.emit("message", message),
      onChange: () => this.#status.scheduleChange(),
      onWaiting: (error) => this.#retrying.add("receipts", error),
      onIdle: () => this.#retrying.remove("receipts"),
    });
  }

  #createHistory() {
    return new History(this.#context, this.#query, this.#timeline, {
      mergePage: (messages, isOld) => this.#incoming.addPage(messages, isOld),
      onChange: () => { this.#unread.onLoadDone(); this.#status.scheduleChange(); },
      onIdle: () => { this.#unread.onLoadDone(); this.#incoming.flush(); },
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
      case "delivered": this.#incoming.applyReceipt(frame.message_ids, { delivered_at: frame.delivered_at }); break;
      case "read": this.#incoming.applyReceipt(frame.message_ids, { read_at: frame.read_at }); break;
      case "resync": this.#history.refetch(); break;
      case "typing": // frames of the participant's own other windows do not count
        if (frame.user_id === this.peer.user_id && frame.contact_id === this.peer.contact_id) this.#typing.startPeerTyping();
        break;
      case "presence": this.#context.presence.applyFrame(frame); break;
      case "recovered": this.#presence.refetch(); break; // no presence frames came during the interruption
      case "error": this.emit("error", new ChatError(frame.detail, { code: frame.cause ?? frame.code })); break;
    }
  }

  /** @param {ServerMessage} serverMessage */
  #handleMessage(serverMessage) {
    const { message, isNew } = this.#incoming.add(serverMessage);
    if (isNew && !message.mine) this.#typing.stopPeerTyping();
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
    this.#unread.close();
    this.#presence.close();
    this.#incoming.flush();
    this.#receipts.close();
    this.#typing.stopPeerTyping();
    for (const work of /** @type {Work[]} */ (["history", "presence", "token"])) this.#retrying.remove(work);
    this.#context.onConversationSettled(this);
  }
}
