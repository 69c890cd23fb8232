/** @typedef {import("../errors.js").ChatError} ChatError */
/** @typedef {import("../types.js").Work} Work */
/** @typedef {import("../types.js").Retried} Retried */
/**
 * @typedef {object} Owner
 * @property {() => void} onChange
 * @property {(work: Work, error: ChatError) => void} onFailed
 * @property {() => void} onRecovered An entry was removed.
 */
export class RetryList {
    /** @param {Owner} owner */
    constructor(owner: Owner);
    /** The same array until an entry changes. @returns {readonly Retried[]} */
    get list(): readonly Retried[];
    /** The work failed and will be retried. @param {Work} work @param {ChatError} error */
    add(work: Work, error: ChatError): void;
    /** The work succeeded, or its owner gave it up. @param {Work} work */
    remove(work: Work): void;
    clear(): void;
    #private;
}
export type ChatError = import("../errors.js").ChatError;
export type Work = import("../types.js").Work;
export type Retried = import("../types.js").Retried;
export type Owner = {
    onChange: () => void;
    onFailed: (work: Work, error: ChatError) => void;
    /**
     * An entry was removed.
     */
    onRecovered: () => void;
};
