/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/** @typedef {import("../types.js").ServerConversation} ServerConversation */
/** @typedef {{ marked: number, total: number | null }} Progress */
/**
 * @typedef {object} Owner
 * @property {(isNeedless: (oldestActivity: string | null) => boolean) => ServerConversation | null | Promise<ServerConversation | null>} findRow The
 *   inbox row of the conversation; null when there is none, or when the rows before that time are needless.
 * @property {() => boolean} isLoaded Whether the newest messages are loaded.
 * @property {(ids: string[]) => Promise<void>} mark Marks messages as read, at most 500.
 * @property {() => void} onChange `firstUnread` changed.
 */
export class UnreadMessages {
    /**
     * @param {import("../context.js").Context} context
     * @param {Record<string, string>} query
     * @param {import("./timeline.js").Timeline} timeline
     * @param {Owner} owner
     */
    constructor(context: import("../context.js").Context, query: Record<string, string>, timeline: import("./timeline.js").Timeline, owner: Owner);
    /** @type {number | null | undefined} `seq`; null when all was read; undefined until it is known. */
    firstUnread: number | null | undefined;
    /** The conversation opens: finds where the unread messages begin. */
    open(): void;
    /** A load of messages ended. */
    onLoadDone(): void;
    /** Finds the first unread message as of now. */
    reset(): void;
    /**
     * Marks all messages that are unread now.
     * @param {(progress: Progress) => void} onProgress
     * @returns {Promise<number>} How many it marked.
     */
    markAll(onProgress: (progress: Progress) => void): Promise<number>;
    close(): void;
    #private;
}
export type ServerMessage = import("../types.js").ServerMessage;
export type ServerConversation = import("../types.js").ServerConversation;
export type Progress = {
    marked: number;
    total: number | null;
};
export type Owner = {
    /**
     * The
     * inbox row of the conversation; null when there is none, or when the rows before that time are needless.
     */
    findRow: (isNeedless: (oldestActivity: string | null) => boolean) => ServerConversation | null | Promise<ServerConversation | null>;
    /**
     * Whether the newest messages are loaded.
     */
    isLoaded: () => boolean;
    /**
     * Marks messages as read, at most 500.
     */
    mark: (ids: string[]) => Promise<void>;
    /**
     * `firstUnread` changed.
     */
    onChange: () => void;
};
