/** @typedef {import("./errors.js").ChatError} ChatError */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./types.js").Retried} Retried */
export class RetryList {
    /**
     * @param {() => void} onChange
     * @param {() => void} onRecovered Something that had failed is over.
     */
    constructor(onChange: () => void, onRecovered: () => void);
    /** The same array until something changes. @returns {readonly Retried[]} */
    get list(): readonly Retried[];
    /** @param {Work} work @param {ChatError} error */
    add(work: Work, error: ChatError): void;
    /** It is not tried again any more, or has succeeded. @param {Work} work */
    remove(work: Work): void;
    clear(): void;
    #private;
}
export type ChatError = import("./errors.js").ChatError;
export type Work = import("./types.js").Work;
export type Retried = import("./types.js").Retried;
