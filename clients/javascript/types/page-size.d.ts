export class PageSize {
    /** @param {{ elapsed: () => number }} clock */
    constructor(clock: {
        elapsed: () => number;
    });
    /** @param {number} max */
    limit(max: number): number;
    /**
     * Runs a request for one page, and learns from how long it takes.
     * @template T
     * @param {() => Promise<T>} request
     * @returns {Promise<T>}
     */
    measure<T>(request: () => Promise<T>): Promise<T>;
    #private;
}
