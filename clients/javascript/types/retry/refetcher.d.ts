/** @typedef {import("../errors.js").ChatError} ChatError */
/**
 * @typedef {object} Owner
 * @property {(partial: boolean) => Promise<void>} load `partial`: this is only a poll.
 * @property {(error: ChatError) => void} onFailed The refetcher will retry.
 * @property {() => void} onRecovered A load succeeded after a failure.
 * @property {() => void} [onIdle] No load runs: there is none to do, or the next one waits for a retry.
 */
export class Refetcher {
    /**
     * @param {{ clock: import("../types.js").Clock, random: () => number }} context
     * @param {Owner} owner
     * @param {number} [pollIntervalMs]
     */
    constructor({ clock, random }: {
        clock: import("../types.js").Clock;
        random: () => number;
    }, owner: Owner, pollIntervalMs?: number);
    /** Whether a load runs now. It is false during the wait for a retry. */
    loading: boolean;
    /** @type {ChatError | null} Why the last load failed. */
    error: ChatError | null;
    /** @param {boolean} [partial] A full request wins over a partial one. */
    refetch(partial?: boolean): void;
    /** @param {boolean} isPolling */
    setPolling(isPolling: boolean): void;
    /** The network, the page or a token is back. @param {boolean} [isForced] Not even the server's `Retry-After` counts. */
    retryNow(isForced?: boolean): void;
    /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
    shortenWait(hadFailed: boolean): void;
    /** A socket reached the server again, so a failed load need not wait. */
    skipWait(): void;
    close(): void;
    #private;
}
export type ChatError = import("../errors.js").ChatError;
export type Owner = {
    /**
     * `partial`: this is only a poll.
     */
    load: (partial: boolean) => Promise<void>;
    /**
     * The refetcher will retry.
     */
    onFailed: (error: ChatError) => void;
    /**
     * A load succeeded after a failure.
     */
    onRecovered: () => void;
    /**
     * No load runs: there is none to do, or the next one waits for a retry.
     */
    onIdle?: (() => void) | undefined;
};
