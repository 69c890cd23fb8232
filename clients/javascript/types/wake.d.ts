export class WakeWatch {
    /**
     * @param {import("./clock.js").FullClock} clock
     * @param {() => void} woken
     */
    constructor(clock: import("./clock.js").FullClock, woken: () => void);
    /** @param {boolean} on */
    watch(on: boolean): void;
    #private;
}
