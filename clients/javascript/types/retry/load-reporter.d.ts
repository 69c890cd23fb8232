/** @typedef {import("../errors.js").ChatError} ChatError */
/** @typedef {import("../types.js").Work} Work */
/**
 * @typedef {object} Listener
 * @property {(error: ChatError) => void} onRefused The server refused, for a reason that was not the last one.
 * @property {() => void} onChange
 */
/**
 * @param {Work} work
 * @param {import("./retry-list.js").RetryList} retryList
 * @param {Listener} listener
 * @returns {Pick<import("./refetcher.js").Owner, "onFailed" | "onRecovered">}
 */
export function reportLoads(work: Work, retryList: import("./retry-list.js").RetryList, { onRefused, onChange }: Listener): Pick<import("./refetcher.js").Owner, "onFailed" | "onRecovered">;
export type ChatError = import("../errors.js").ChatError;
export type Work = import("../types.js").Work;
export type Listener = {
    /**
     * The server refused, for a reason that was not the last one.
     */
    onRefused: (error: ChatError) => void;
    onChange: () => void;
};
