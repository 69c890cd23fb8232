/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/**
 * @typedef {object} Entry
 * @property {string} client_message_id
 * @property {object} body
 * @property {(outcome: Message | ChatError) => void} settle Called once, with the stored message or the final error.
 * @property {boolean} [mayBeStored] At least one attempt ended without proof that the server did not store the message.
 */
/**
 * @typedef {object} OutboxOwner
 * @property {(body: object) => Promise<ServerMessage>} post
 * @property {(message: ServerMessage) => Message} onSent The server stored it. Returns the message as the conversation shows it.
 * @property {(entry: Entry, error: ChatError) => void} onFailed The server rejected it. There is no retry.
 */
/** @typedef {OutboxOwner & import("../retry/reported-retry.js").Owner} Owner */
export class Outbox {
    /**
     * @param {Owner} owner
     * @param {{ clock: import("../types.js").Clock, random: () => number }} context
     * @param {number} [capacity]
     */
    constructor(owner: Owner, { clock, random }: {
        clock: import("../types.js").Clock;
        random: () => number;
    }, capacity?: number);
    get size(): number;
    get isFull(): boolean;
    /** @param {Entry} entry */
    add(entry: Entry): void;
    /** A frame or a page shows that the server stored the message. @param {Message} message */
    confirm(message: Message): void;
    /**
     * Removes a message that is not in progress and that no attempt can have stored. Without this, a firewall that dislikes one word
     * would block all messages behind it.
     * @param {string} client_message_id
     * @returns {boolean}
     */
    discard(client_message_id: string): boolean;
    /** The network, the page or a token is back. @param {boolean} [isForced] */
    retryNow(isForced?: boolean): void;
    /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
    shortenWait(hadFailed: boolean): void;
    close(): void;
    #private;
}
export type Message = import("../types.js").Message;
export type ServerMessage = import("../types.js").ServerMessage;
export type Entry = {
    client_message_id: string;
    body: object;
    /**
     * Called once, with the stored message or the final error.
     */
    settle: (outcome: Message | ChatError) => void;
    /**
     * At least one attempt ended without proof that the server did not store the message.
     */
    mayBeStored?: boolean | undefined;
};
export type OutboxOwner = {
    post: (body: object) => Promise<ServerMessage>;
    /**
     * The server stored it. Returns the message as the conversation shows it.
     */
    onSent: (message: ServerMessage) => Message;
    /**
     * The server rejected it. There is no retry.
     */
    onFailed: (entry: Entry, error: ChatError) => void;
};
export type Owner = OutboxOwner & import("../retry/reported-retry.js").Owner;
import { ChatError } from "../errors.js";
