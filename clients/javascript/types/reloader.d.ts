/**
 * What a conversation and the inbox tell of their loads.
 * @param {import("./types.js").Work} work
 * @param {{
 *   failed: (work: import("./types.js").Work, error: ChatError) => void, over: (work: import("./types.js").Work) => void,
 *   refused: (error: ChatError) => void, changed: () => void,
 * }} owner `refused`: by the server, for this reason for the first time.
 * @returns {Pick<Owner, "failed" | "worked">}
 */
export function reportOf(work: import("./types.js").Work, { failed, over, refused, changed }: {
    failed: (work: import("./types.js").Work, error: ChatError) => void;
    over: (work: import("./types.js").Work) => void;
    refused: (error: ChatError) => void;
    changed: () => void;
}): Pick<Owner, "failed" | "worked">;
/** @typedef {import("./errors.js").ChatError} ChatError */
/**
 * @typedef {object} Owner
 * @property {(glance: boolean) => Promise<void>} load `glance`: it is only a poll.
 * @property {(error: ChatError) => void} failed It is tried again.
 * @property {() => void} worked It has failed before, and has not now.
 * @property {() => void} [rested] Nothing is being loaded any more, or not until a failure has been waited for.
 */
export class Reloader {
    /**
     * @param {{ clock: import("./types.js").Clock, random: () => number }} context
     * @param {Owner} owner
     * @param {number} [pollMs]
     */
    constructor({ clock, random }: {
        clock: import("./types.js").Clock;
        random: () => number;
    }, owner: Owner, pollMs?: number);
    /** Whether it is loading, and not waiting to. */
    loading: boolean;
    /** @type {ChatError | null} Why the last load failed. */
    error: ChatError | null;
    /** @param {boolean} [glance] */
    now(glance?: boolean): void;
    /** @param {boolean} on */
    poll(on: boolean): void;
    /** Something has changed for the better. */
    hurry(): void;
    /** Other work has succeeded. @param {boolean} hadFailed Before. */
    nudge(hadFailed: boolean): void;
    /** The server is there again, as a socket tells: what a failure waits for is over. */
    endWait(): void;
    close(): void;
    #private;
}
export type ChatError = import("./errors.js").ChatError;
export type Owner = {
    /**
     * `glance`: it is only a poll.
     */
    load: (glance: boolean) => Promise<void>;
    /**
     * It is tried again.
     */
    failed: (error: ChatError) => void;
    /**
     * It has failed before, and has not now.
     */
    worked: () => void;
    /**
     * Nothing is being loaded any more, or not until a failure has been waited for.
     */
    rested?: (() => void) | undefined;
};
