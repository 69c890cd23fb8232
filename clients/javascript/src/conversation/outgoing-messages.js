// What this side writes in one conversation: it checks the text, shows the message at once, and passes it to the outbox. A rejected
// message stays in the timeline, to be sent again or discarded.

import { ChatError, invalidArgument, rejectedPromise } from "../errors.js";
import { isMessage } from "../http/shapes.js";
import { endpointFields } from "../participants/participant.js";
import { findContentProblem, toWellFormed } from "./content.js";
import { Outbox } from "./outbox.js";
import { uuidv7 } from "./uuid.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").ServerMessage} ServerMessage */

/**
 * @typedef {object} SenderOwner
 * @property {(message: ServerMessage) => Message} onStored The server stored it. Returns the message as the conversation shows it.
 * @property {() => void} onChange The timeline changed.
 * @property {() => void} onSettled A message left the outbox, or the user discarded it.
 */

/** @typedef {SenderOwner & import("../retry/reported-retry.js").Owner} Owner */

export class OutgoingMessages {
  #context;
  #peer;
  #timeline;
  #owner;
  #outbox;

  /**
   * @param {import("../context.js").Context} context
   * @param {import("../types.js").Participant} peer
   * @param {import("./timeline.js").Timeline} timeline
   * @param {Owner} owner
   */
  constructor(context, peer, timeline, owner) {
    this.#context = context;
    this.#peer = peer;
    this.#timeline = timeline;
    this.#owner = owner;
    this.#outbox = new Outbox({
      post: (body) => context.http.post("/chat/send", body, isMessage),
      onSent: owner.onStored,
      onFailed: (entry, error) => { timeline.setSendError(entry.client_message_id, error); owner.onChange(); },
      onWaiting: owner.onWaiting,
      onIdle: owner.onIdle,
    }, context);
  }

  /** The number of messages that the server has not stored yet. */
  get size() {
    return this.#outbox.size;
  }

  /**
   * @param {string} text
   * @param {boolean} isClosed Whether the conversation takes no messages any more.
   * @returns {{ sent: Promise<Message>, isAccepted: boolean }} `isAccepted`: the message is in the timeline.
   */
  send(text, isClosed) {
    const { clock } = this.#context;
    const refused = typeof text !== "string" ? invalidArgument("the content of a message is a string")
      : isClosed ? new ChatError("the conversation was closed", { code: "closed" })
        : this.#outbox.isFull ? new ChatError("too many messages wait to be sent", { code: "outbox_full" }) : null;
    if (refused) return { sent: rejectedPromise(refused), isAccepted: false };
    const content = toWellFormed(text);
    const problem = findContentProblem(content);
    if (problem) return { sent: rejectedPromise(invalidArgument(problem)), isAccepted: false };
    const client_message_id = uuidv7(clock.now());
    this.#timeline.addPending(client_message_id, content, new Date(clock.now()).toISOString());
    this.#owner.onChange();
    return { sent: this.#post(client_message_id, content), isAccepted: true };
  }

  /** Sends a failed message again, as the same message. @param {Message} message @returns {Promise<Message>} */
  retry(message) {
    if (typeof message?.key !== "string") return rejectedPromise(invalidArgument("`retry` takes a message of `messages`"));
    const failed = this.#timeline.messages.find((one) => one.key === message.key && one.status === "failed");
    if (!failed?.client_message_id) return rejectedPromise(invalidArgument("there is no such failed message"));
    this.#timeline.setSendError(failed.client_message_id, null);
    this.#owner.onChange();
    return this.#post(failed.client_message_id, failed.content);
  }

  /** @param {Message} message @returns {boolean} Whether the message is gone. */
  discard(message) {
    if (typeof message?.key !== "string") throw invalidArgument("`discard` takes a message of `messages`");
    const found = this.#timeline.messages.find((one) => one.key === message.key && one.id === null);
    if (!found?.client_message_id) return false;
    if (found.status === "sending" && !this.#outbox.discard(found.client_message_id)) return false;
    this.#timeline.removePending(found.client_message_id);
    this.#owner.onChange();
    this.#owner.onSettled();
    return true;
  }

  /** A frame or a page shows that the server stored the message. @param {Message} message */
  confirm(message) {
    this.#outbox.confirm(message);
  }

  /** The network, the page or a token is back. @param {boolean} [isForced] */
  retryNow(isForced) {
    this.#outbox.retryNow(isForced);
  }

  /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
  shortenWait(hadFailed) {
    this.#outbox.shortenWait(hadFailed);
  }

  close() {
    this.#outbox.close();
  }

  /** @param {string} id @param {string} content @returns {Promise<Message>} */
  #post(id, content) {
    const { me, location_id } = this.#context;
    const body = { location_id, content, client_message_id: id, ...endpointFields(me, this.#peer) };
    /** @type {Promise<Message>} */
    const sent = new Promise((resolve, reject) => this.#outbox.add({
      client_message_id: id, body,
      settle: (outcome) => {
        if (outcome instanceof ChatError) reject(outcome);
        else resolve(outcome);
        this.#owner.onSettled();
      },
    }));
    sent.catch(() => {}); // the status of the message shows the failure as well
    return sent;
  }
}
