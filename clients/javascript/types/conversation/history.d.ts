/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/** @typedef {import("../errors.js").ChatError} ChatError */
/**
 * @typedef {object} Owner
 * @property {(messages: ServerMessage[], isOld: boolean) => void} mergePage `isOld`: the page does not contain new messages, so
 *   nothing of it is announced.
 * @property {() => void} onChange `loaded` or `hasMore` changed.
 * @property {() => void} onIdle No load runs.
 * @property {(error: ChatError) => void} onFailed The history will retry.
 * @property {() => void} onRecovered A load succeeded after a failure.
 */
export class History {
    /**
     * @param {import("../context.js").Context} context
     * @param {Record<string, string>} query
     * @param {import("./timeline.js").Timeline} timeline
     * @param {Owner} owner
     */
    constructor(context: import("../context.js").Context, query: Record<string, string>, timeline: import("./timeline.js").Timeline, owner: Owner);
    /** Whether the newest messages are loaded. */
    loaded: boolean;
    /** Whether the server has older messages. */
    hasMore: boolean;
    /** Why the newest messages could not be loaded, until a retry succeeds. */
    get error(): import("../errors.js").ChatError | null;
    /** `seq` of the first message that a running load should bring; Infinity when there is none. */
    get firstMissingSeq(): number;
    /** The socket may have missed something. */
    refetch(): void;
    /** The same, and a failed load does not wait any longer. */
    refetchNow(): void;
    /** @param {boolean} isPolling Whether frames are missing, so that polling replaces them. */
    setPolling(isPolling: boolean): void;
    /** The network, the page or a token is back. @param {boolean} [isForced] */
    retryNow(isForced?: boolean): void;
    /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
    shortenWait(hadFailed: boolean): void;
    /** Ignores the results of running loads. */
    close(): void;
    /** A message arrived by the socket. If earlier ones do not follow soon, they are loaded. */
    checkForGap(): void;
    /** Loads the page before the oldest message. @param {number} [size] @returns {Promise<boolean>} Whether a further call can add more. */
    loadOlder(size?: number): Promise<boolean>;
    /** Loads older pages until the message is there. @param {number} seq @returns {Promise<boolean>} Whether it is. */
    loadUntil(seq: number): Promise<boolean>;
    #private;
}
export type ServerMessage = import("../types.js").ServerMessage;
export type ChatError = import("../errors.js").ChatError;
export type Owner = {
    /**
     * `isOld`: the page does not contain new messages, so
     * nothing of it is announced.
     */
    mergePage: (messages: ServerMessage[], isOld: boolean) => void;
    /**
     * `loaded` or `hasMore` changed.
     */
    onChange: () => void;
    /**
     * No load runs.
     */
    onIdle: () => void;
    /**
     * The history will retry.
     */
    onFailed: (error: ChatError) => void;
    /**
     * A load succeeded after a failure.
     */
    onRecovered: () => void;
};
