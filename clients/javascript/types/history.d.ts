/** @typedef {import("./types.js").ServerMessage} ServerMessage */
/**
 * @typedef {object} Owner
 * @property {(messages: ServerMessage[], isOld: boolean) => void} mergePage A page. `isOld`: it is older than what was announced, or begins everything.
 * @property {() => void} onChange `loaded` or `hasMore` has.
 * @property {() => void} onIdle Nothing is being loaded.
 * @property {(error: import("./errors.js").ChatError) => void} onFailed It is tried again.
 * @property {() => void} onRecovered It has failed before, and has not now.
 */
export class History {
    /**
     * @param {import("./chat.js").Context} context
     * @param {Record<string, string>} query
     * @param {import("./timeline.js").Timeline} timeline
     * @param {Owner} owner
     */
    constructor(context: import("./chat.js").Context, query: Record<string, string>, timeline: import("./timeline.js").Timeline, owner: Owner);
    /** Whether the newest messages have been loaded. */
    loaded: boolean;
    /** Whether there are older ones. */
    hasMore: boolean;
    /** Why the newest messages could not be loaded, while that is tried again. */
    get error(): import("./errors.js").ChatError | null;
    /** `seq` of the first one that is missing and being loaded at this moment; Infinity when there is none. */
    get firstMissingSeq(): number;
    /** Something may have been missed. */
    refetch(): void;
    /** The same, and whatever a failure has to wait for is over. */
    refetchNow(): void;
    /** Nobody tells what is new. @param {boolean} on */
    setPolling(on: boolean): void;
    retryNow(): void;
    /** @param {boolean} hadFailed */
    shortenWait(hadFailed: boolean): void;
    /** What is under way is not taken any more. */
    close(): void;
    /** A message came by the socket: those before it should be there, or come in a moment. */
    checkForGap(): void;
    /** The page before the oldest message. @returns {Promise<boolean>} Whether there are still older ones, and room for them. */
    loadOlder(): Promise<boolean>;
    #private;
}
export type ServerMessage = import("./types.js").ServerMessage;
export type Owner = {
    /**
     * A page. `isOld`: it is older than what was announced, or begins everything.
     */
    mergePage: (messages: ServerMessage[], isOld: boolean) => void;
    /**
     * `loaded` or `hasMore` has.
     */
    onChange: () => void;
    /**
     * Nothing is being loaded.
     */
    onIdle: () => void;
    /**
     * It is tried again.
     */
    onFailed: (error: import("./errors.js").ChatError) => void;
    /**
     * It has failed before, and has not now.
     */
    onRecovered: () => void;
};
