export class Typing {
    /**
     * @param {import("./clock.js").FullClock} clock
     * @param {() => boolean} tell Whether the other side could be told.
     * @param {() => void} changed The other side has begun or stopped.
     */
    constructor(clock: import("./clock.js").FullClock, tell: () => boolean, changed: () => void);
    /** Whether the other side types. */
    get active(): boolean;
    /** Somebody types here. */
    here(): void;
    /** What was typed here has been sent: what comes next is news again. */
    sent(): void;
    /** The other side types. */
    there(): void;
    /** The other side does not, or nobody knows. */
    stopped(): void;
    #private;
}
