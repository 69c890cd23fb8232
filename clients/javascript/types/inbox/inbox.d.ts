/** @extends {Emitter<import("../types.js").InboxEvents>} */
export class Inbox extends Emitter<import("../types.js").InboxEvents> {
    /** @param {import("../context.js").Context} context */
    constructor(context: import("../context.js").Context);
    /** Newest activity first. The same array until something changes. */
    get rows(): readonly import("../types.js").InboxRow[];
    /** Whether the first page is loaded. */
    get loaded(): boolean;
    /** Whether the server has older rows, which `loadMore()` loads. */
    get hasMore(): boolean;
    /** The number of unread messages in all loaded rows. */
    get unread(): number;
    get state(): import("../types.js").State;
    /** Why the state is not `live`, if the reason is known. */
    get error(): import("../errors.js").ChatError | null;
    /** When the next attempt to connect is due at the latest, in milliseconds since 1970; null while nothing waits. */
    get retryAt(): number | null;
    /** The work that failed and will be retried, with its last error. The same array until something changes. */
    get retrying(): readonly import("../types.js").Retried[];
    /** For `Chat`. @internal */
    get isClosed(): boolean;
    /** For `Chat`: the row of one conversation; null when there is none; undefined when it may be among those that are not loaded. @internal @param {import("../types.js").Participant} peer */
    findRow(peer: import("../types.js").Participant): import("../types.js").InboxRow | null | undefined;
    /**
     * For `Chat`: announces messages of all conversations from now on.
     * @internal
     * @param {import("./message-feed.js").FeedOwner} owner
     * @param {readonly { peer: import("../types.js").Participant, seq: number }[]} known Up to where the messages of open conversations are old.
     */
    openFeed(owner: import("./message-feed.js").FeedOwner, known: readonly {
        peer: import("../types.js").Participant;
        seq: number;
    }[]): MessageFeed;
    /** For `Chat`. @internal */
    closeFeed(): void;
    /** Loads the next page. @returns {Promise<boolean>} Whether there is another one. */
    loadMore(): Promise<boolean>;
    /** Ends the use that one call of `chat.inbox` began. The last use ends the connection. */
    close(): void;
    /** For `Chat`: another use begins. @internal */
    addUse(): void;
    /** For `Chat`: ends everything. @internal */
    destroy(): void;
    /** For `Chat`: the network, the page or a token is back. @internal @param {boolean} [isForced] The user asks for an attempt. */
    retryNow(isForced?: boolean): void;
    /** For `Chat`. @internal */
    onNetworkChange(): void;
    /** For `Chat`: other work succeeded. @internal @param {boolean} hadFailed */
    shortenWait(hadFailed: boolean): void;
    /** For `Chat`: there is a fresh token. @internal @param {string} token */
    updateToken(token: string): void;
    /** For `Chat`: a conversation changed. Without frames, the inbox loads its rows soon. @internal */
    invalidate(): void;
    #private;
}
import { Emitter } from "../emitter.js";
import { MessageFeed } from "./message-feed.js";
