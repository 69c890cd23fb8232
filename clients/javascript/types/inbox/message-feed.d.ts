/** @typedef {import("../types.js").Participant} Participant */
/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").InboxRow} InboxRow */
/** @typedef {{ seq: number | null, ahead: Set<number> }} Progress All up to `seq` was announced or is old. So were those of `ahead`. null
 * means that the row has not shown yet where the new messages begin. */
/**
 * @typedef {object} FeedOwner
 * @property {(detail: { peer: Participant, conversation_id: string, message: Message }) => void} onMessage
 * @property {(peer: Participant, client_message_id: string | null) => boolean} isOwn Whether this chat is sending the message.
 * @property {(peer: Participant) => boolean} isOpen Whether the conversation is open.
 */
export class MessageFeed {
    /**
     * @param {import("../context.js").Context} context
     * @param {FeedOwner} owner
     * @param {() => readonly InboxRow[]} getRows
     * @param {Pick<import("../retry/refetcher.js").Owner, "onFailed" | "onRecovered">} loads
     */
    constructor(context: import("../context.js").Context, owner: FeedOwner, getRows: () => readonly InboxRow[], loads: Pick<import("../retry/refetcher.js").Owner, "onFailed" | "onRecovered">);
    /** The rows changed. @param {boolean} isComplete Whether the server has no other rows. */
    update(isComplete: boolean): void;
    /** A message of an open conversation. @param {Participant} peer @param {string} conversation_id @param {Message} message */
    offer(peer: Participant, conversation_id: string, message: Message): void;
    /** This chat sent the message, or it is old. @param {Participant} peer @param {number} seq */
    skip(peer: Participant, seq: number): void;
    /** All up to this message is old. @param {Participant} peer @param {number} seq */
    skipUntil(peer: Participant, seq: number): void;
    retryNow(isForced?: boolean): void;
    /** @param {boolean} hadFailed */
    shortenWait(hadFailed: boolean): void;
    close(): void;
    #private;
}
export type Participant = import("../types.js").Participant;
export type Message = import("../types.js").Message;
export type InboxRow = import("../types.js").InboxRow;
/**
 * All up to `seq` was announced or is old. So were those of `ahead`. null
 * means that the row has not shown yet where the new messages begin.
 */
export type Progress = {
    seq: number | null;
    ahead: Set<number>;
};
export type FeedOwner = {
    onMessage: (detail: {
        peer: Participant;
        conversation_id: string;
        message: Message;
    }) => void;
    /**
     * Whether this chat is sending the message.
     */
    isOwn: (peer: Participant, client_message_id: string | null) => boolean;
    /**
     * Whether the conversation is open.
     */
    isOpen: (peer: Participant) => boolean;
};
