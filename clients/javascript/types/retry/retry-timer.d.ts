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
    /** When the next attempt is due at the latest, in milliseconds since 1970; null while nothing waits. */
    get dueAt(): number | null;
    /** The network, the page or a token is back. @param {boolean} [isForced] Not even the server's `Retry-After` counts. */
    retryNow(isForced?: boolean): void;
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
