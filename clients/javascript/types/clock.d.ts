/** @type {import("./types.js").Clock} */
export const systemClock: import("./types.js").Clock;
/** A wait that can be cut short. */
export class Pause {
    /** @param {import("./types.js").Clock} clock */
    constructor(clock: import("./types.js").Clock);
    /**
     * @param {number} ms
     * @returns {Promise<void>}
     */
    wait(ms: number): Promise<void>;
    /** Whoever waits goes on now. */
    end(): void;
    #private;
}
