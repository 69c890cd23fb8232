export const MAX_ROWS: 1000;
/** @typedef {import("../types.js").InboxRow} InboxRow */
/** @typedef {import("../types.js").ServerConversation} ServerConversation */
export class InboxRows {
    /** @param {import("../types.js").Participant} me */
    constructor(me: import("../types.js").Participant);
    /** Newest activity first. The same array until a row changes. @returns {readonly InboxRow[]} */
    get list(): readonly InboxRow[];
    get size(): number;
    /** @param {string} conversation_id */
    has(conversation_id: string): boolean;
    /** @param {import("../types.js").Participant} peer @returns {InboxRow | null} */
    find(peer: import("../types.js").Participant): InboxRow | null;
    /** @param {ServerConversation} conversation */
    put(conversation: ServerConversation): void;
    /**
     * Replaces all rows.
     * @param {readonly ServerConversation[]} conversations
     * @param {Iterable<string>} keptIds Rows that are newer than these.
     */
    replaceAll(conversations: readonly ServerConversation[], keptIds: Iterable<string>): void;
    #private;
}
export type InboxRow = import("../types.js").InboxRow;
export type ServerConversation = import("../types.js").ServerConversation;
