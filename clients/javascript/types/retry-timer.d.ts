/** @typedef {import("./errors.js").ChatError} ChatError */
export class RetryTimer {
    /**
     * @param {{ clock: import("./types.js").Clock, random: () => number }} context
     * @param {{ base?: number, cap?: number }} [bounds] In milliseconds.
     */
    constructor({ clock, random }: {
        clock: import("./types.js").Clock;
        random: () => number;
    }, bounds?: {
        base?: number;
        cap?: number;
    });
    /**
     * Waits, after a failure, until the next try.
     * @param {ChatError | null} error Why it failed, as far as that is known.
     * @param {number} [more] Milliseconds to wait in addition; good news ends them.
     * @returns {Promise<void>}
     */
    wait(error: ChatError | null, more?: number): Promise<void>;
    /** The next failure is the first one. */
    reset(): void;
    /** Something has changed for the better. */
    retryNow(): void;
    /** Other work has succeeded. @param {boolean} hadFailed Before. */
    shortenWait(hadFailed: boolean): void;
    /** Whatever it waits for. */
    cancel(): void;
    #private;
}
export type ChatError = import("./errors.js").ChatError;
