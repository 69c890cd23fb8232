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
    /** Checks the connection now. A check that runs already continues: a caller that pings often must not postpone its end. */
    ping(): void;
    #private;
}
