export class Backoff {
    /**
     * @param {() => number} random 0 up to, but not including, 1.
     * @param {{ base?: number, cap?: number }} [bounds] In milliseconds.
     */
    constructor(random: () => number, { base, cap }?: {
        base?: number;
        cap?: number;
    });
    /**
     * Milliseconds to wait now.
     * @param {number | null} [atLeast] What the server asked for.
     */
    next(atLeast?: number | null): number;
    reset(): void;
    #private;
}
