/** @typedef {import("./types.js").InboxRow} InboxRow */
/** @typedef {import("./types.js").ServerConversation} ServerConversation */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./errors.js").ChatError} ChatError */
/** @typedef {{ change: void, state: import("./types.js").State, error: ChatError }} InboxEvents */
/** @extends {Emitter<InboxEvents>} */
export class Inbox extends Emitter<InboxEvents> {
    /** @param {import("./chat.js").Context} context */
    constructor(context: import("./chat.js").Context);
    /** Newest activity first. The same array until something changes. @returns {readonly InboxRow[]} */
    get rows(): readonly InboxRow[];
    /** Whether the first page has been loaded. */
    get loaded(): boolean;
    /** Whether there are older ones, for `loadMore()` to load. */
    get hasMore(): boolean;
    /** Unread messages in all rows that are loaded. */
    get unread(): number;
    /** @returns {import("./types.js").State} */
    get state(): import("./types.js").State;
    /** Why the state is not `live`, as far as is known. */
    get error(): import("./errors.js").ChatError | null;
    /** What has failed and is being tried again, and why. The same array until something changes. */
    get retrying(): readonly import("./types.js").Retried[];
    /** Whether it was closed. @internal */
    get isClosed(): boolean;
    /** Loads the next page. @returns {Promise<boolean>} Whether there are still more. */
    loadMore(): Promise<boolean>;
    /** Ends the use that one call of `chat.inbox` began. With the last use the connection ends. */
    close(): void;
    /** For `Chat`: somebody else uses it as well. @internal */
    addUse(): void;
    /** For `Chat`: ends it for all. @internal */
    destroy(): void;
    /** For `Chat`: the network or a token is back. @internal */
    retryNow(): void;
    /** For `Chat`: other work has succeeded. @internal @param {boolean} hadFailed */
    shortenWait(hadFailed: boolean): void;
    /** For `Chat`: a fresh token. @internal @param {string} token */
    updateToken(token: string): void;
    /** For `Chat`: a conversation has changed. Where no socket tells what became of its row, it is loaded. @internal */
    invalidate(): void;
    #private;
}
export type InboxRow = import("./types.js").InboxRow;
export type ServerConversation = import("./types.js").ServerConversation;
export type Work = import("./types.js").Work;
export type ChatError = import("./errors.js").ChatError;
export type InboxEvents = {
    change: void;
    state: import("./types.js").State;
    error: ChatError;
};
import { Emitter } from "./emitter.js";
