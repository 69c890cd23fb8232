export class CancellableDelay {
    /** @param {import("../types.js").Clock} clock */
    constructor(clock: import("../types.js").Clock);
    /**
     * @param {number} ms
     * @returns {Promise<void>}
     */
    wait(ms: number): Promise<void>;
    /** Resolves the promise of the running delay. */
    cancel(): void;
    #private;
}
