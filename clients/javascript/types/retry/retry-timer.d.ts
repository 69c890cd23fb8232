/** @typedef {import("../errors.js").ChatError} ChatError */
/** @typedef {{ retryNow: () => void, shortenWait: () => void, recovered: () => void, finish: () => void }} Wait */
export class RetryTimer {
    /**
     * @param {{ clock: import("../types.js").Clock, random: () => number }} context
     * @param {{ base?: number, cap?: number }} [bounds] In milliseconds.
     */
    constructor({ clock, random }: {
        clock: import("../types.js").Clock;
        random: () => number;
    }, bounds?: {
        base?: number;
        cap?: number;
    });
    /**
     * Waits after a failure until the next attempt.
     * @param {ChatError | null} error The reason, if it is known.
     * @param {number} [extraMs] Added to the wait. `retryNow` skips it.
     * @returns {Promise<void>}
     */
    wait(error: ChatError | null, extraMs?: number): Promise<void>;
    /** The next failure counts as the first one. */
    reset(): void;
    /** The network, the page or a token is back. */
    retryNow(): void;
    /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
    shortenWait(hadFailed: boolean): void;
    /** Ends the wait at once. */
    cancel(): void;
    #private;
}
export type ChatError = import("../errors.js").ChatError;
export type Wait = {
    retryNow: () => void;
    shortenWait: () => void;
    recovered: () => void;
    finish: () => void;
};
