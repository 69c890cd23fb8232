export class Timeline {
    /** @param {Participant} me */
    constructor(me: Participant);
    /** What to show. The same array until something changes. @returns {readonly Message[]} */
    get messages(): readonly Message[];
    get size(): number;
    get firstSeq(): number;
    /** `seq` of the newest that the server has confirmed; 0 when there is none. */
    get lastSeq(): number;
    /** `seq` of the oldest one that is not here, though newer ones are; or null. */
    get firstMissingSeq(): number | null;
    /**
     * The `seq` to load from so that nothing is missed, receipts of the last `lookback` messages included.
     * @param {number} lookback
     */
    firstStaleSeq(lookback: number): number;
    /**
     * Takes what the server says of a message. One from before the stretch is not kept: `loadOlder()` brings it, with those between.
     * @param {ServerMessage} message
     * @returns {{ message: Message, isNew: boolean, confirms: boolean }} `confirms`: it was on its way.
     */
    merge(message: ServerMessage): {
        message: Message;
        isNew: boolean;
        confirms: boolean;
    };
    /**
     * The other side has, or has read, these.
     * @param {readonly string[]} ids
     * @param {Times} times
     * @returns {Message[]} Those that changed by it.
     */
    applyReceipt(ids: readonly string[], times: Times): Message[];
    /** One that is on its way. @param {string} client_message_id @param {string} content @param {string} sent_at */
    addPending(client_message_id: string, content: string, sent_at: string): import("./types.js").Message;
    /**
     * One on its way has failed (`error`), or is tried again (null): then it is the last of those that wait.
     * @param {string} client_message_id
     * @param {import("./errors.js").ChatError | null} error
     */
    setSendError(client_message_id: string, error: import("./errors.js").ChatError | null): void;
    /** @param {string} client_message_id @returns {boolean} */
    remove(client_message_id: string): boolean;
    /** Everything from this `seq` on is to be here. What was kept from before it is forgotten. @param {number} seq */
    startAt(seq: number): void;
    /** Forgets the oldest until `max` are left. @param {number} max @returns {boolean} Whether there were more. */
    trim(max: number): boolean;
    /** The messages that this side has received and not read. @returns {Message[]} */
    unread(): Message[];
    /** @param {string} id @returns {Message | undefined} */
    find(id: string): Message | undefined;
    #private;
}
export type Message = import("./types.js").Message;
export type ServerMessage = import("./types.js").ServerMessage;
export type Participant = import("./types.js").Participant;
export type Times = {
    delivered_at?: string;
    read_at?: string;
};
