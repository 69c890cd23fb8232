export class WakeDetector {
    /**
     * @param {import("./clock.js").FullClock} clock
     * @param {() => void} onWake
     */
    constructor(clock: import("./clock.js").FullClock, onWake: () => void);
    /** @param {boolean} isEnabled */
    setEnabled(isEnabled: boolean): void;
    #private;
}
