// The retries of one kind of request: when the next attempt runs, and what the owner reports meanwhile. Success and failure are
// reported here, so that the list of retried work never keeps an entry of work that is done.

import { RetryTimer } from "./retry-timer.js";

/** @typedef {import("../errors.js").ChatError} ChatError */

/**
 * @typedef {object} Owner
 * @property {(error: ChatError) => void} onWaiting The request failed. The next attempt follows.
 * @property {() => void} onIdle No retry is due.
 */

export class ReportedRetry {
  #timer;
  #owner;

  /**
   * @param {{ clock: import("../types.js").Clock, random: () => number }} context
   * @param {{ base: number, cap: number }} bounds In milliseconds.
   * @param {Owner} owner
   */
  constructor({ clock, random }, bounds, owner) {
    this.#timer = new RetryTimer({ clock, random }, bounds);
    this.#owner = owner;
  }

  /** Whether another attempt may succeed. After a refusal of the token, another token may come. @param {ChatError} error */
  static isWorthwhile(error) {
    return error.retryable || error.isUnauthorized;
  }

  /** The request succeeded. */
  succeed() {
    this.#timer.reset();
    this.#owner.onIdle();
  }

  /** There is nothing to retry any more. */
  stop() {
    this.#owner.onIdle();
  }

  /** The request failed. Resolves when the next attempt is due. @param {ChatError} error */
  async wait(error) {
    this.#owner.onWaiting(error);
    await this.#timer.wait(error);
  }

  /** The network, the page or a token is back. @param {boolean} [isForced] Not even the server's `Retry-After` counts. */
  retryNow(isForced) {
    this.#timer.retryNow(isForced);
  }

  /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
  shortenWait(hadFailed) {
    this.#timer.shortenWait(hadFailed);
  }

  /** Ends the wait at once. */
  cancel() {
    this.#timer.cancel();
  }
}
