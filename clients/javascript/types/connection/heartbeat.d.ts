export class Heartbeat {
    /**
     * @param {import("../time/clock.js").FullClock} clock
     * @param {() => void} sendPing
     * @param {() => void} onSilent
     */
    constructor(clock: import("../time/clock.js").FullClock, sendPing: () => void, onSilent: () => void);
    /** The connection is ready. */
    start(): void;
    stop(): void;
    /** A frame arrived. */
    recordActivity(): void;
    /** @param {boolean} [isRepeated] The timer of the ping before was late. */
    ping(isRepeated?: boolean): void;
    #private;
}
