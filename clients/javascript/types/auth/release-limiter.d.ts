export class ReleaseLimiter {
    /**
     * @param {import("../time/clock.js").FullClock} clock
     * @param {() => void} onRelease
     */
    constructor(clock: import("../time/clock.js").FullClock, onRelease: () => void);
    /** The server refused the token in force. */
    recordRefusal(): void;
    /** Releases now, or when the interval has passed. */
    release(): void;
    cancel(): void;
    #private;
}
