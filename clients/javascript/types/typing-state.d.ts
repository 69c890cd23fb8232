export class TypingState {
    /**
     * @param {import("./clock.js").FullClock} clock
     * @param {() => boolean} notify Whether the other side could be told.
     * @param {() => void} onChange The other side has begun or stopped.
     */
    constructor(clock: import("./clock.js").FullClock, notify: () => boolean, onChange: () => void);
    /** Whether the other side types. */
    get active(): boolean;
    /** Somebody types here. */
    notifyPeer(): void;
    /** What was typed here has been sent: what comes next is news again. */
    resetThrottle(): void;
    /** The other side types. */
    startPeerTyping(): void;
    /** The other side does not, or nobody knows. */
    stopPeerTyping(): void;
    #private;
}
