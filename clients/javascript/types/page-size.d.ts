export class PageSize {
    /** @param {{ elapsed: () => number }} clock */
    constructor(clock: {
        elapsed: () => number;
    });
    /** @param {number} most */
    of(most: number): number;
    /**
     * Runs a request for one page, and learns from how long it takes.
     * @template T
     * @param {() => Promise<T>} ask
     * @returns {Promise<T>}
     */
    measure<T>(ask: () => Promise<T>): Promise<T>;
    #private;
}
