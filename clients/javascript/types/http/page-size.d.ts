export class PageSize {
    /** @param {{ elapsed: () => number }} clock */
    constructor(clock: {
        elapsed: () => number;
    });
    /** The size of the next page. @param {number} max */
    limit(max: number): number;
    /**
     * Runs a request for one page, and adapts the size to its duration.
     * @template T
     * @param {() => Promise<T>} request
     * @returns {Promise<T>}
     */
    measure<T>(request: () => Promise<T>): Promise<T>;
    #private;
}
