export class RefusalDelay {
    /** @param {{ clock: import("../time/clock.js").FullClock, random: () => number }} context */
    constructor({ clock, random }: {
        clock: import("../time/clock.js").FullClock;
        random: () => number;
    });
    /** Whether a new request must wait. */
    get isActive(): boolean;
    start(): void;
    reset(): void;
    #private;
}
