/**
 * @typedef {object} Owner
 * @property {() => Promise<void>} load
 * @property {() => void} forget The presence is unknown from now on.
 * @property {(isWatched: boolean) => void} onWatch
 * @property {(error: ChatError) => void} onFailed The watch will retry.
 * @property {() => void} onRecovered
 */
export class PresenceWatch {
    /**
     * @param {{ clock: import("../types.js").Clock, random: () => number }} context
     * @param {Owner} owner
     */
    constructor(context: {
        clock: import("../types.js").Clock;
        random: () => number;
    }, owner: Owner);
    open(): void;
    /**
     * @param {boolean} hasFrames Whether frames deliver changes from now on.
     * @param {boolean} mayPoll Whether polling makes sense without frames.
     */
    setFramesAvailable(hasFrames: boolean, mayPoll: boolean): void;
    /** Loads the presence, because frames may have been missed. */
    refetch(): void;
    /** The user asks for an attempt. */
    retryNow(): void;
    /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
    shortenWait(hadFailed: boolean): void;
    close(): void;
    #private;
}
export type ChatError = import("../errors.js").ChatError;
export type Owner = {
    load: () => Promise<void>;
    /**
     * The presence is unknown from now on.
     */
    forget: () => void;
    onWatch: (isWatched: boolean) => void;
    /**
     * The watch will retry.
     */
    onFailed: (error: ChatError) => void;
    onRecovered: () => void;
};
