/**
 * What a conversation and the inbox tell of their loads.
 * @param {import("./types.js").Work} work
 * @param {{
 *   onFailed: (work: import("./types.js").Work, error: ChatError) => void, onDone: (work: import("./types.js").Work) => void,
 *   onRefused: (error: ChatError) => void, onChange: () => void,
 * }} owner `onRefused`: by the server, for this reason for the first time.
 * @returns {Pick<Owner, "onFailed" | "onRecovered">}
 */
export function reportLoads(work: import("./types.js").Work, { onFailed, onDone, onRefused, onChange }: {
    onFailed: (work: import("./types.js").Work, error: ChatError) => void;
    onDone: (work: import("./types.js").Work) => void;
    onRefused: (error: ChatError) => void;
    onChange: () => void;
}): Pick<Owner, "onFailed" | "onRecovered">;
/** @typedef {import("./errors.js").ChatError} ChatError */
/**
 * @typedef {object} Owner
 * @property {(partial: boolean) => Promise<void>} load `partial`: it is only a poll.
 * @property {(error: ChatError) => void} onFailed It is tried again.
 * @property {() => void} onRecovered It has failed before, and has not now.
 * @property {() => void} [onIdle] Nothing is being loaded any more, or not until a failure has been waited for.
 */
export class Refetcher {
    /**
     * @param {{ clock: import("./types.js").Clock, random: () => number }} context
     * @param {Owner} owner
     * @param {number} [pollIntervalMs]
     */
    constructor({ clock, random }: {
        clock: import("./types.js").Clock;
        random: () => number;
    }, owner: Owner, pollIntervalMs?: number);
    /** Whether it is loading, and not waiting to. */
    loading: boolean;
    /** @type {ChatError | null} Why the last load failed. */
    error: ChatError | null;
    /** @param {boolean} [partial] */
    refetch(partial?: boolean): void;
    /** @param {boolean} on */
    setPolling(on: boolean): void;
    /** Something has changed for the better. */
    retryNow(): void;
    /** Other work has succeeded. @param {boolean} hadFailed Before. */
    shortenWait(hadFailed: boolean): void;
    /** The server is there again, as a socket tells: what a failure waits for is over. */
    skipWait(): void;
    close(): void;
    #private;
}
export type ChatError = import("./errors.js").ChatError;
export type Owner = {
    /**
     * `partial`: it is only a poll.
     */
    load: (partial: boolean) => Promise<void>;
    /**
     * It is tried again.
     */
    onFailed: (error: ChatError) => void;
    /**
     * It has failed before, and has not now.
     */
    onRecovered: () => void;
    /**
     * Nothing is being loaded any more, or not until a failure has been waited for.
     */
    onIdle?: (() => void) | undefined;
};
