export class Backoff {
    /**
     * @param {() => number} random From 0 up to, but not including, 1.
     * @param {{ base?: number, cap?: number }} [bounds] In milliseconds.
     */
    constructor(random: () => number, { base, cap }?: {
        base?: number;
        cap?: number;
    });
    /**
     * Milliseconds to wait before the next attempt.
     * @param {number | null} [minMs] What the server asked for.
     */
    next(minMs?: number | null): number;
    reset(): void;
    #private;
}
