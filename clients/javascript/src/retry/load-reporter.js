// Reports the loads of a conversation or of the inbox: failures to the retry list, refusals to the owner. It reports each reason for a
// refusal once, not once per attempt.

import { isSameReason } from "../errors.js";

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
export function reportLoads(work, retryList, { onRefused, onChange }) {
  /** @type {ChatError | null} */
  let lastRefusal = null;
  return {
    onFailed: (error) => {
      retryList.add(work, error);
      if (!error.retryable) {
        if (!isSameReason(error, lastRefusal)) onRefused(error);
        lastRefusal = error;
      }
      onChange();
    },
    onRecovered: () => {
      retryList.remove(work);
      lastRefusal = null;
      onChange();
    },
  };
}
