export class TypingState {
    /**
     * @param {import("../time/clock.js").FullClock} clock
     * @param {() => boolean} notify Sends the notification. Returns whether it could.
     * @param {() => void} onChange The peer started or stopped to type.
     */
    constructor(clock: import("../time/clock.js").FullClock, notify: () => boolean, onChange: () => void);
    get isPeerTyping(): boolean;
    /** This side types. */
    notifyPeer(): void;
    /** The text was sent. The next keystroke notifies the peer at once. */
    resetThrottle(): void;
    startPeerTyping(): void;
    /** The peer stopped, or the state is unknown. */
    stopPeerTyping(): void;
    #private;
}
