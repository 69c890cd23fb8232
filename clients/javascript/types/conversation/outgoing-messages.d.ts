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
    /**
     * @param {import("../context.js").Context} context
     * @param {import("../types.js").Participant} peer
     * @param {import("./timeline.js").Timeline} timeline
     * @param {Owner} owner
     */
    constructor(context: import("../context.js").Context, peer: import("../types.js").Participant, timeline: import("./timeline.js").Timeline, owner: Owner);
    /** The number of messages that the server has not stored yet. */
    get size(): number;
    /**
     * @param {string} text
     * @param {boolean} isClosed Whether the conversation takes no messages any more.
     * @returns {{ sent: Promise<Message>, isAccepted: boolean }} `isAccepted`: the message is in the timeline.
     */
    send(text: string, isClosed: boolean): {
        sent: Promise<Message>;
        isAccepted: boolean;
    };
    /** Sends a failed message again, as the same message. @param {Message} message @returns {Promise<Message>} */
    retry(message: Message): Promise<Message>;
    /** @param {Message} message @returns {boolean} Whether the message is gone. */
    discard(message: Message): boolean;
    /** A frame or a page shows that the server stored the message. @param {Message} message */
    confirm(message: Message): void;
    /** The network, the page or a token is back. @param {boolean} [isForced] */
    retryNow(isForced?: boolean): void;
    /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
    shortenWait(hadFailed: boolean): void;
    close(): void;
    #private;
}
export type Message = import("../types.js").Message;
export type ServerMessage = import("../types.js").ServerMessage;
export type SenderOwner = {
    /**
     * The server stored it. Returns the message as the conversation shows it.
     */
    onStored: (message: ServerMessage) => Message;
    /**
     * The timeline changed.
     */
    onChange: () => void;
    /**
     * A message left the outbox, or the user discarded it.
     */
    onSettled: () => void;
};
export type Owner = SenderOwner & import("../retry/reported-retry.js").Owner;
