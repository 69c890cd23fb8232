// Loads the same thing again: on request until it succeeds, and by polling while no socket delivers changes. One load runs at a
// time. Requests during a load become one more load after it.

import { toChatError } from "../errors.js";
import { RetryTimer } from "./retry-timer.js";

const POLL_INTERVAL_MS = 4_000;

/** @typedef {import("../errors.js").ChatError} ChatError */

/**
 * @typedef {object} Owner
 * @property {(partial: boolean) => Promise<void>} load `partial`: this is only a poll.
 * @property {(error: ChatError) => void} onFailed The refetcher will retry.
 * @property {() => void} onRecovered A load succeeded after a failure.
 * @property {() => void} [onIdle] No load runs: there is none to do, or the next one waits for a retry.
 */

export class Refetcher {
  /** Whether a load runs now. It is false during the wait for a retry. */
  loading = false;
  /** @type {ChatError | null} Why the last load failed. */
  error = null;
  #owner;
  #clock;
  #random;
  #pollIntervalMs;
  #retry;
  #isRequested = false;
  #isPartial = false;
  #running = false;
  #polling = false;
  #closed = false;
  #cancelPoll = () => {};

  /**
   * @param {{ clock: import("../types.js").Clock, random: () => number }} context
   * @param {Owner} owner
   * @param {number} [pollIntervalMs]
   */
  constructor({ clock, random }, owner, pollIntervalMs = POLL_INTERVAL_MS) {
    this.#owner = owner;
    this.#clock = clock;
    this.#random = random;
    this.#pollIntervalMs = pollIntervalMs;
    this.#retry = new RetryTimer({ clock, random }, { base: 500, cap: 15_000 });
  }

  /** @param {boolean} [partial] A full request wins over a partial one. */
  refetch(partial = false) {
    this.#closed = false;
    this.#isPartial = partial && (this.#isPartial || !this.#isRequested);
    this.#isRequested = true;
    if (!this.#running) void this.#run();
  }

  /** @param {boolean} isPolling */
  setPolling(isPolling) {
    if (isPolling === this.#polling) return;
    this.#polling = isPolling;
    this.#schedulePoll();
  }

  /** The network, the page or a token is back. @param {boolean} [isForced] Not even the server's `Retry-After` counts. */
  retryNow(isForced) {
    this.#retry.retryNow(isForced);
    if (this.#polling) this.refetch();
  }

  /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
  shortenWait(hadFailed) {
    this.#retry.shortenWait(hadFailed);
  }

  /** A socket reached the server again, so a failed load need not wait. */
  skipWait() {
    this.#retry.retryNow();
  }

  close() {
    this.#closed = true;
    this.#isRequested = false;
    this.error = null;
    this.setPolling(false);
    this.#retry.cancel();
    this.#retry.reset();
  }

  #schedulePoll() {
    this.#cancelPoll();
    this.#cancelPoll = () => {};
    if (!this.#polling) return;
    // The jitter keeps the clients of a failed gateway from polling in step.
    this.#cancelPoll = this.#clock.after(this.#pollIntervalMs * (0.75 + this.#random() / 2), () => this.refetch(true));
  }

  async #run() {
    this.#running = true;
    while (this.#isRequested && !this.#closed) {
      const partial = this.#isPartial;
      this.#isRequested = this.#isPartial = false;
      this.loading = true;
      try {
        await this.#owner.load(partial);
        if (this.#closed) break;
        this.#retry.reset();
        if (this.error) {
          this.error = null;
          this.#owner.onRecovered();
        }
      } catch (thrown) {
        if (this.#closed) break;
        this.error = toChatError(thrown, "network");
        this.#isPartial = partial && (this.#isPartial || !this.#isRequested);
        this.#isRequested = true;
        this.#owner.onFailed(this.error);
        this.#becomeIdle();
        await this.#retry.wait(this.error);
      }
    }
    this.#running = false;
    this.#becomeIdle();
    this.#schedulePoll();
  }

  #becomeIdle() {
    this.loading = false;
    this.#owner.onIdle?.();
  }
}
