export class Timeline {
    /** @param {Participant} me */
    constructor(me: Participant);
    /** The same array until something changes. @returns {readonly Message[]} */
    get messages(): readonly Message[];
    /** The number of confirmed messages. */
    get size(): number;
    get firstSeq(): number;
    /** `seq` of the newest confirmed message; 0 when there is none. */
    get lastSeq(): number;
    /** `seq` of the oldest message that is missing although newer ones are here; or null. */
    get firstMissingSeq(): number | null;
    /**
     * The `seq` from which a refetch must load: the first message that is missing, new, or among the last `lookback` ones and unread.
     * @param {number} lookback
     */
    firstStaleSeq(lookback: number): number;
    /**
     * Takes a message of the server. The timeline does not keep one from before `firstSeq`: `loadOlder()` brings it later, together with
     * those between.
     * @param {ServerMessage} message
     * @returns {{ message: Message, isNew: boolean, confirms: boolean }} `confirms`: it was on its way.
     */
    merge(message: ServerMessage): {
        message: Message;
        isNew: boolean;
        confirms: boolean;
    };
    /**
     * The peer received or read these messages.
     * @param {readonly string[]} ids
     * @param {Times} times
     * @returns {Message[]} The messages that changed.
     */
    applyReceipt(ids: readonly string[], times: Times): Message[];
    /** Adds a message that is on its way. @param {string} client_message_id @param {string} content @param {string} sent_at */
    addPending(client_message_id: string, content: string, sent_at: string): import("../types.js").Message;
    /**
     * Marks a message on its way as failed (`error`), or as sending again (null). The latter moves it behind the other waiting ones.
     * @param {string} client_message_id
     * @param {import("../errors.js").ChatError | null} error
     */
    setSendError(client_message_id: string, error: import("../errors.js").ChatError | null): void;
    /** Removes a message that is on its way. @param {string} client_message_id */
    removePending(client_message_id: string): void;
    /** The timeline should be complete from this `seq` on. It drops older messages. @param {number} seq */
    startAt(seq: number): void;
    /** Drops the oldest messages until `max` are left. @param {number} max @returns {boolean} Whether it dropped any. */
    trim(max: number): boolean;
    /** The received messages that this side has not read. @returns {Message[]} */
    unread(): Message[];
    /** Whether this side sent the message. @param {ServerMessage} message */
    isMine(message: ServerMessage): boolean;
    #private;
}
export type Message = import("../types.js").Message;
export type ServerMessage = import("../types.js").ServerMessage;
export type Participant = import("../types.js").Participant;
export type Times = {
    delivered_at?: string;
    read_at?: string;
};
