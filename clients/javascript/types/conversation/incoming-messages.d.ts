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
    /**
     * @param {import("../context.js").Context} context
     * @param {import("./timeline.js").Timeline} timeline
     * @param {Owner} owner
     */
    constructor(context: import("../context.js").Context, timeline: import("./timeline.js").Timeline, owner: Owner);
    /** @type {string | null} The server's id of the conversation; null before its first message. */
    conversation_id: string | null;
    receipts: ReceiptSender;
    /** Takes a message of a frame, or the response to a send. @param {ServerMessage} message */
    add(message: ServerMessage): {
        message: import("./timeline.js").Message;
        isNew: boolean;
        confirms: boolean;
    };
    /** @param {ServerMessage[]} messages @param {boolean} isOld An old page is not announced. */
    addPage(messages: ServerMessage[], isOld: boolean): void;
    /** @param {string[]} ids @param {{ delivered_at?: string, read_at?: string }} times */
    applyReceipt(ids: string[], times: {
        delivered_at?: string;
        read_at?: string;
    }): void;
    /** Announces the messages that wait for earlier ones. */
    flush(): void;
    #private;
}
export type Message = import("../types.js").Message;
export type ServerMessage = import("../types.js").ServerMessage;
export type IncomingOwner = {
    getHistory: () => import("./history.js").History;
    /**
     * The server stored a message that was on its way.
     */
    onConfirmed: (message: Message) => void;
    /**
     * A message arrived that this object did not send; once each.
     */
    onNew: (message: Message) => void;
    /**
     * The timeline changed.
     */
    onChange: () => void;
};
/**
 * The retries are those of receipts.
 */
export type Owner = IncomingOwner & import("../retry/reported-retry.js").Owner;
import { ReceiptSender } from "./receipt-sender.js";
