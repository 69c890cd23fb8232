// One conversation: its messages in order, what is sent into it, and who types. It joins what the socket tells, what the
// history holds and what waits to be sent, in such a way that nothing is lost, doubled or out of order.

import { Announcer } from "./announcer.js";
import { isHistory, isMessage } from "./answer.js";
import { contentProblem, wellFormed } from "./content.js";
import { ChatError } from "./errors.js";
import { Emitter } from "./events.js";
import { History } from "./history.js";
import { Outbox } from "./outbox.js";
import { conversationQuery, ends, keyOf } from "./participant.js";
import { Receipts } from "./receipts.js";
import { reportOf } from "./reloader.js";
import { Retrying } from "./retrying.js";
import { LiveSocket } from "./socket.js";
import { Timeline } from "./timeline.js";
import { Typing } from "./typing.js";
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
  #announcer;
  #typing;
  #presence;
  #retrying;
  #uses = 1; // calls of `Chat.conversation` without their `close`
  #closed = false;
  #changing = false;
  /** @type {import("./types.js").State} */
  #toldState = "closed";

  /**
   * @param {import("./client.js").Context} context
   * @param {import("./types.js").Participant} peer
   */
  constructor(context, peer) {
    super();
    /** The other side. */
    this.peer = peer;
    this.#context = context;
    this.#query = conversationQuery(context.location_id, context.me, peer);
    this.#timeline = new Timeline(context.me);
    this.#retrying = new Retrying(() => { this.#changed(); context.retryingChanged(); }, context.recovered);
    const failed = (/** @type {Work} */ work, /** @type {ChatError} */ error) => {
      this.#retrying.failed(work, error);
      context.trouble(work, error);
    };
    const over = (/** @type {Work} */ work) => this.#retrying.over(work);
    this.#outbox = new Outbox({
      post: (body) => context.http.post("/chat/send", body, isMessage),
      sent: (message) => {
        const shown = this.#merge(message).message;
        this.#history.checkMissing();
        return shown;
      },
      failed: (entry, error) => { this.#timeline.fail(entry.client_message_id, error); this.#changed(); },
      waiting: (error) => failed("send", error),
      moving: () => over("send"),
    }, context);
    this.#receipts = new Receipts(context, {
      marked: (marked) => {
        for (const { id, delivered_at, read_at } of marked) {
          this.#receipt([id], { ...(delivered_at ? { delivered_at } : {}), ...(read_at ? { read_at } : {}) });
        }
      },
      waiting: (error) => failed("receipts", error),
      over: () => over("receipts"),
    });
    this.#history = new History(context, this.#query, this.#timeline, {
      take: (messages, isOld) => this.#take(messages, isOld),
      changed: () => this.#changed(),
      rested: () => this.#announcer.flush(),
      ...reportOf("history", { failed, over, refused: (error) => this.emit("error", error), changed: () => this.#showState() }),
    });
    this.#presence = context.presence.watch(peer, { failed: (error) => failed("presence", error), worked: () => over("presence") });
    this.#announcer = new Announcer(context.clock, () => this.#history.awaited, (message) => this.emit("message", message));
    this.#typing = new Typing(context.clock, () => this.#socket.send({ type: "typing" }), () => this.#changed());
    this.#socket = new LiveSocket(context, {
      query: () => this.#query,
      probe: () => context.http.get("/chat/history", { ...this.#query, limit: 1 }, isHistory),
      frame: (frame) => this.#frame(frame),
      changed: () => this.#showState(),
      failed, over,
    });
    this.#presence.open();
    this.#socket.open();
    this.#history.reload(); // not behind the socket: what is there already can be shown at once
  }

  /** What to show: by `seq`, then what is on its way. The same array until something changes. @returns {readonly Message[]} */
  get messages() {
    return this.#timeline.messages;
  }

  /** Whether the newest messages have been loaded. */
  get loaded() {
    return this.#history.loaded;
  }

  /** Whether there are older ones, for `history()` to load. */
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
    return this.#context.presence.of(this.peer);
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
    const content = wellFormed(text);
    const problem = contentProblem(content);
    if (problem) return refuse(new ChatError(problem, { status: 422 }));
    if (this.#closed) return refuse(new ChatError("the conversation was closed", { code: "closed" }));
    if (this.#outbox.full) return refuse(new ChatError("too many messages wait to be sent", { code: "outbox_full" }));
    const client_message_id = uuidv7(clock.now());
    this.#timeline.add(client_message_id, content, new Date(clock.now()).toISOString());
    this.#typing.sent();
    this.#changed();
    return this.#post(client_message_id, content);
  }

  /**
   * Tries a failed message again, as the same message.
   * @param {Message} message
   * @returns {Promise<Message>}
   */
  retry(message) {
    const failed = this.messages.find((one) => one.key === message.key && one.status === "failed");
    if (!failed?.client_message_id) return refuse(new ChatError("there is no such failed message", { code: "closed" }));
    this.#timeline.fail(failed.client_message_id, null);
    this.#changed();
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
    this.#changed();
    return true;
  }

  /**
   * Loads the page before the oldest message in `messages`, and adds it there.
   * @returns {Promise<boolean>} Whether it can add more: there are still older ones, and room for them.
   */
  history() {
    return this.#history.older();
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
    if (this.#context.role !== "service") this.#typing.here();
  }

  /**
   * Ends the use that one call of `chat.conversation` began. With the last use the connection ends; messages on their way are
   * still sent.
   */
  close() {
    if (this.#closed || --this.#uses > 0) return;
    this.#end();
  }

  /** For `Chat`: somebody else uses it as well; or it is back from `close()`, before the last message was sent. @internal */
  reopen() {
    this.#uses++;
    if (!this.#closed) return;
    this.#closed = false;
    this.#uses = 1;
    this.#presence.open();
    this.#socket.open();
    this.#receipts.reopen();
    this.#history.reload();
  }

  /** For `Chat`: ends everything. @internal */
  abandon() {
    if (!this.#closed) this.#end();
    this.#outbox.close();
  }

  /** For `Chat`: the network or a token is back. @internal */
  hurry() {
    this.#outbox.hurry();
    this.#receipts.hurry();
    this.#history.hurry();
    this.#socket.hurry();
  }

  /** For `Chat`: other work has succeeded. @internal @param {boolean} hadFailed */
  nudge(hadFailed) {
    this.#outbox.nudge(hadFailed);
    this.#receipts.nudge(hadFailed);
    this.#history.nudge(hadFailed);
    this.#presence.nudge(hadFailed);
    this.#socket.nudge(hadFailed);
  }

  /** For `Chat`: a fresh token. @internal @param {string} token */
  offer(token) {
    this.#socket.offer(token);
  }

  /** For `Chat`: presence has changed. @internal @param {import("./types.js").Participant} who */
  presenceChanged(who) {
    if (keyOf(who) === keyOf(this.peer)) this.#changed();
  }

  /** @param {string} id @param {string} content @returns {Promise<Message>} */
  #post(id, content) {
    const { me, location_id } = this.#context;
    const body = { location_id, content, client_message_id: id, ...ends(me, this.peer) };
    /** @type {Promise<Message>} */
    const sent = new Promise((resolve, reject) => this.#outbox.add({
      client_message_id: id, body,
      settle: (outcome) => {
        if (outcome instanceof ChatError) reject(outcome);
        else resolve(outcome);
        if (this.#closed && this.#outbox.size === 0) this.#context.forget(this);
      },
    }));
    sent.catch(() => {}); // told by the message's status as well
    return sent;
  }

  /** @param {any} frame */
  #frame(frame) {
    switch (frame.type) {
      case "ready":
        // Resumed: what was missed follows. Else it may be anything, and what was loaded before may miss a moment.
        if (frame.resumed !== true) this.#history.reloadAtOnce(); // the server is there again
        this.#presence.ask();
        break;
      case "message": {
        const { message, isNew } = this.#merge(frame.message);
        if (isNew && !message.mine) this.#typing.stopped();
        if (isNew) this.#history.checkMissing();
        if (frame.message.seq === 1) this.#presence.ask(); // acquainted from now on
        break;
      }
      case "delivered": this.#receipt(frame.message_ids, { delivered_at: frame.delivered_at }); break;
      case "read": this.#receipt(frame.message_ids, { read_at: frame.read_at }); break;
      case "resync": this.#history.reload(); break;
      case "typing": // not of another of one's own windows
        if (frame.user_id === this.peer.user_id && frame.contact_id === this.peer.contact_id) this.#typing.there();
        break;
      case "presence": this.#context.presence.heard(frame); break;
      case "recovered": this.#presence.ask(); break; // nothing was told meanwhile
      case "error": this.emit("error", new ChatError(frame.detail, { title: frame.code, code: "frame" })); break;
    }
  }

  /** The socket's state has changed, or whether the history could be loaded. */
  #showState() {
    const { state } = this;
    const { isCut } = this.#socket;
    const mayAsk = state !== "refused";
    this.#history.poll(isCut && mayAsk);
    this.#presence.told(!isCut, mayAsk);
    if (isCut) this.#typing.stopped();
    if (state !== this.#toldState) {
      this.#toldState = state;
      this.emit("state", state);
    }
    this.#changed();
  }

  #end() {
    this.#closed = true;
    this.#uses = 0;
    this.#socket.close();
    this.#history.close();
    this.#presence.close();
    this.#announcer.flush();
    this.#receipts.close();
    this.#typing.stopped();
    for (const work of /** @type {Work[]} */ (["history", "presence", "token"])) this.#retrying.over(work);
    if (this.#outbox.size === 0) this.#context.forget(this);
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
      if (!isOld && merged.isNew && !merged.confirms) this.#announcer.add(merged.message);
    }
    this.#changed();
    return merged;
  }

  /** @param {string[]} ids @param {{ delivered_at?: string, read_at?: string }} times */
  #receipt(ids, times) {
    if (this.#timeline.receipt(ids, times).length > 0) this.#changed();
  }

  /** @param {ServerMessage[]} messages @param {boolean} isOld */
  #take(messages, isOld) {
    const arrived = [];
    for (const message of messages) {
      const { message: merged } = this.#merge(message, isOld);
      if (merged.id && !merged.mine && !merged.delivered_at) arrived.push(merged.id);
    }
    // The gateway proves what came by the socket; what came by HTTP is ours to tell.
    if (arrived.length > 0 && this.#context.role !== "service") void this.#receipts.mark("delivered", arrived).catch(() => {});
  }

  #changed() {
    if (this.#changing) return;
    this.#changing = true;
    queueMicrotask(() => { this.#changing = false; this.emit("change", undefined); });
  }
}

/** @param {ChatError} error @returns {Promise<never>} */
function refuse(error) {
  const refused = Promise.reject(error);
  refused.catch(() => {});
  return refused;
}
