/**
 * A clock that was given, with what it lacks.
 * @param {import("./types.js").Clock} clock
 * @returns {FullClock}
 */
export function completeClock(clock: import("./types.js").Clock): FullClock;
/** @type {FullClock} */
export const systemClock: FullClock;
/** A wait that can be cut short. */
export class CancellableDelay {
    /** @param {import("./types.js").Clock} clock */
    constructor(clock: import("./types.js").Clock);
    /**
     * @param {number} ms
     * @returns {Promise<void>}
     */
    wait(ms: number): Promise<void>;
    /** The wait, if there is one, is over. */
    cancel(): void;
    #private;
}
export type FullClock = import("./types.js").Clock & {
    elapsed: () => number;
};
