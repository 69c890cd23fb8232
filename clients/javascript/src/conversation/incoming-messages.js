// What the server says about the messages of one conversation. Frames, pages and responses of sends meet here in the timeline. New
// messages are announced in order, and received ones are confirmed to the server.

import { OrderedNotifier } from "./ordered-notifier.js";
import { ReceiptSender } from "./receipt-sender.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").ServerMessage} ServerMessage */

/**
 * @typedef {object} IncomingOwner
 * @property {() => import("./history.js").History} getHistory
 * @property {(message: Message) => void} onConfirmed The server stored a message that was on its way.
 * @property {(message: Message) => void} onNew A message arrived that this object did not send; once each.
 * @property {() => void} onChange The timeline changed.
 */

/** @typedef {IncomingOwner & import("../retry/reported-retry.js").Owner} Owner The retries are those of receipts. */

export class IncomingMessages {
  /** @type {string | null} The server's id of the conversation; null before its first message. */
  conversation_id = null;
  #context;
  #timeline;
  #owner;
  #notifier;

  /**
   * @param {import("../context.js").Context} context
   * @param {import("./timeline.js").Timeline} timeline
   * @param {Owner} owner
   */
  constructor(context, timeline, owner) {
    this.#context = context;
    this.#timeline = timeline;
    this.#owner = owner;
    this.#notifier = new OrderedNotifier(context.clock, () => owner.getHistory().firstMissingSeq, owner.onNew);
    this.receipts = new ReceiptSender(context, {
      onMarked: (marked) => {
        for (const { id, delivered_at, read_at } of marked) {
          this.applyReceipt([id], { ...(delivered_at ? { delivered_at } : {}), ...(read_at ? { read_at } : {}) });
        }
      },
      onWaiting: owner.onWaiting,
      onIdle: owner.onIdle,
    });
  }

  /** Takes a message of a frame, or the response to a send. @param {ServerMessage} message */
  add(message) {
    const merged = this.#merge(message, false);
    if (merged.isNew || merged.confirms) this.#owner.getHistory().checkForGap();
    return merged;
  }

  /** @param {ServerMessage[]} messages @param {boolean} isOld An old page is not announced. */
  addPage(messages, isOld) {
    const received = [];
    for (const message of messages) {
      const { message: merged } = this.#merge(message, isOld);
      if (merged.id && !merged.mine && !merged.delivered_at) received.push(merged.id);
    }
    // The gateway confirms the delivery of frames. The delivery of a page is for the client to confirm.
    if (received.length > 0 && this.#context.role !== "service") void this.receipts.mark("delivered", received).catch(() => {});
  }

  /** @param {string[]} ids @param {{ delivered_at?: string, read_at?: string }} times */
  applyReceipt(ids, times) {
    if (this.#timeline.applyReceipt(ids, times).length > 0) this.#owner.onChange();
  }

  /** Announces the messages that wait for earlier ones. */
  flush() {
    this.#notifier.flush();
  }

  /** @param {ServerMessage} message @param {boolean} isOld */
  #merge(message, isOld) {
    const merged = this.#timeline.merge(message);
    this.conversation_id = message.conversation_id;
    if (merged.confirms) this.#owner.onConfirmed(merged.message);
    if (merged.isNew || merged.confirms) {
      if (this.#timeline.trim(this.#context.maxMessages)) this.#owner.getHistory().hasMore = true;
      if (!isOld && merged.isNew && !merged.confirms) this.#notifier.add(merged.message);
    }
    this.#owner.onChange();
    return merged;
  }
}
