/** @typedef {import("../types.js").ServerConversation} ServerConversation */
export class InboxLoader {
    /**
     * @param {import("../context.js").Context} context
     * @param {import("./inbox-rows.js").InboxRows} rows
     * @param {() => void} onChange
     */
    constructor(context: import("../context.js").Context, rows: import("./inbox-rows.js").InboxRows, onChange: () => void);
    /** Whether the first page is loaded. */
    loaded: boolean;
    get hasMore(): boolean;
    /** Whether every row of the server is here. Beyond `MAX_ROWS` some never are. */
    get isComplete(): boolean;
    /** @param {ServerConversation} conversation Of a frame. */
    applyFrame(conversation: ServerConversation): void;
    /** Loads as many rows as the inbox holds, from the newest on. */
    refetch(): Promise<void>;
    /** Loads the next page. @returns {Promise<boolean>} Whether there is another one. */
    loadMore(): Promise<boolean>;
    /** One row, to learn whether the server gives any. */
    probe(): Promise<any>;
    #private;
}
export type ServerConversation = import("../types.js").ServerConversation;
