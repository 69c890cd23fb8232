export class Timeline {
    /** @param {Participant} me */
    constructor(me: Participant);
    /** What to show. The same array until something changes. @returns {readonly Message[]} */
    get messages(): readonly Message[];
    get size(): number;
    /** `seq` of the oldest and the newest that the server has confirmed; 0 when there is none. */
    get first(): number;
    get last(): number;
    /** `seq` behind which one or more are missing, or null. */
    get gap(): number | null;
    /**
     * The `seq` to load from so that nothing is missed, receipts of the last `back` messages included; null when nothing is here yet.
     * @param {number} back
     */
    stale(back: number): number | null;
    /**
     * Takes what the server says of a message.
     * @param {ServerMessage} message
     * @returns {{ message: Message, isNew: boolean, confirms: string | null }} `confirms`: the `client_message_id` of one that was on its way.
     */
    merge(message: ServerMessage): {
        message: Message;
        isNew: boolean;
        confirms: string | null;
    };
    /**
     * The other side has, or has read, these.
     * @param {readonly string[]} ids
     * @param {Times} times
     * @returns {Message[]} Those that changed by it.
     */
    receipt(ids: readonly string[], times: Times): Message[];
    /** One that is on its way. @param {string} client_message_id @param {string} content @param {string} sent_at */
    add(client_message_id: string, content: string, sent_at: string): import("./types.js").Message;
    /**
     * One on its way has failed (`error`), or is tried again (null): then it is the last of those that wait.
     * @param {string} client_message_id
     * @param {import("./errors.js").ChatError | null} error
     */
    fail(client_message_id: string, error: import("./errors.js").ChatError | null): void;
    /** @param {string} client_message_id @returns {boolean} */
    remove(client_message_id: string): boolean;
    /** Forgets everything that the server has, to begin anew at another place. */
    restart(): void;
    /** Forgets the oldest until `most` are left. @param {number} most @returns {boolean} Whether there were more. */
    trim(most: number): boolean;
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
