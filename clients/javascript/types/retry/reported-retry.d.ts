/** @typedef {import("../errors.js").ChatError} ChatError */
/**
 * @typedef {object} Owner
 * @property {(error: ChatError) => void} onWaiting The request failed. The next attempt follows.
 * @property {() => void} onIdle No retry is due.
 */
export class ReportedRetry {
    /** Whether another attempt may succeed. After a refusal of the token, another token may come. @param {ChatError} error */
    static isWorthwhile(error: ChatError): boolean;
    /**
     * @param {{ clock: import("../types.js").Clock, random: () => number }} context
     * @param {{ base: number, cap: number }} bounds In milliseconds.
     * @param {Owner} owner
     */
    constructor({ clock, random }: {
        clock: import("../types.js").Clock;
        random: () => number;
    }, bounds: {
        base: number;
        cap: number;
    }, owner: Owner);
    /** The request succeeded. */
    succeed(): void;
    /** There is nothing to retry any more. */
    stop(): void;
    /** The request failed. Resolves when the next attempt is due. @param {ChatError} error */
    wait(error: ChatError): Promise<void>;
    /** The network, the page or a token is back. @param {boolean} [isForced] Not even the server's `Retry-After` counts. */
    retryNow(isForced?: boolean): void;
    /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
    shortenWait(hadFailed: boolean): void;
    /** Ends the wait at once. */
    cancel(): void;
    #private;
}
export type ChatError = import("../errors.js").ChatError;
export type Owner = {
    /**
     * The request failed. The next attempt follows.
     */
    onWaiting: (error: ChatError) => void;
    /**
     * No retry is due.
     */
    onIdle: () => void;
};
