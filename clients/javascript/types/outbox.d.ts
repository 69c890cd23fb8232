/** @typedef {import("./types.js").Message} Message */
/**
 * @typedef {object} Entry
 * @property {string} client_message_id
 * @property {object} body
 * @property {(outcome: Message | ChatError) => void} settle Called once: it is with the server, or is not going to be.
 * @property {boolean} [mayBeStored] The server may have it: at least one try ended without an answer that rules it out.
 */
/**
 * @typedef {object} Owner
 * @property {(body: object) => Promise<import("./types.js").ServerMessage>} post
 * @property {(message: import("./types.js").ServerMessage) => Message} onSent The server's answer; returns it as it is shown.
 * @property {(entry: Entry, error: ChatError) => void} onFailed It will not be tried again.
 * @property {(error: ChatError) => void} onWaiting It will be.
 * @property {() => void} onIdle Nothing waits for another try any more.
 */
export class Outbox {
    /**
     * @param {Owner} owner
     * @param {{ clock: import("./types.js").Clock, random: () => number }} context
     * @param {number} [capacity]
     */
    constructor(owner: Owner, { clock, random }: {
        clock: import("./types.js").Clock;
        random: () => number;
    }, capacity?: number);
    get size(): number;
    get isFull(): boolean;
    /** @param {Entry} entry */
    add(entry: Entry): void;
    /** The server has it, as another way has told. @param {Message} message */
    confirm(message: Message): void;
    /**
     * Takes back one that is not under way and that no try can have brought to the server. A firewall that dislikes a word
     * would otherwise hold up all behind it.
     * @param {string} client_message_id
     * @returns {boolean}
     */
    discard(client_message_id: string): boolean;
    /** Something has changed for the better. */
    retryNow(): void;
    /** Other work has succeeded. @param {boolean} hadFailed Before. */
    shortenWait(hadFailed: boolean): void;
    close(): void;
    #private;
}
export type Message = import("./types.js").Message;
export type Entry = {
    client_message_id: string;
    body: object;
    /**
     * Called once: it is with the server, or is not going to be.
     */
    settle: (outcome: Message | ChatError) => void;
    /**
     * The server may have it: at least one try ended without an answer that rules it out.
     */
    mayBeStored?: boolean | undefined;
};
export type Owner = {
    post: (body: object) => Promise<import("./types.js").ServerMessage>;
    /**
     * The server's answer; returns it as it is shown.
     */
    onSent: (message: import("./types.js").ServerMessage) => Message;
    /**
     * It will not be tried again.
     */
    onFailed: (entry: Entry, error: ChatError) => void;
    /**
     * It will be.
     */
    onWaiting: (error: ChatError) => void;
    /**
     * Nothing waits for another try any more.
     */
    onIdle: () => void;
};
import { ChatError } from "./errors.js";
