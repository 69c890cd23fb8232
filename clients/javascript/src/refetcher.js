// Loads something again: now, until it works; and every few seconds as long as nobody tells what is new. One load at a
// time; what is asked for during one is another one behind it.

import { toChatError, isSameReason } from "./errors.js";
import { RetryTimer } from "./retry-timer.js";

const POLL_INTERVAL_MS = 4_000;

/** @typedef {import("./errors.js").ChatError} ChatError */

/**
 * @typedef {object} Owner
 * @property {(partial: boolean) => Promise<void>} load `partial`: it is only a poll.
 * @property {(error: ChatError) => void} onFailed It is tried again.
 * @property {() => void} onRecovered It has failed before, and has not now.
 * @property {() => void} [onIdle] Nothing is being loaded any more, or not until a failure has been waited for.
 */

export class Refetcher {
  /** Whether it is loading, and not waiting to. */
  loading = false;
  /** @type {ChatError | null} Why the last load failed. */
  error = null;
  #owner;
  #clock;
  #random;
  #pollIntervalMs;
  #retry;
  #isRequested = false;
  #partial = false;
  #running = false;
  #polling = false;
  #closed = false;
  #cancelPoll = () => {};

  /**
   * @param {{ clock: import("./types.js").Clock, random: () => number }} context
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

  /** @param {boolean} [partial] */
  refetch(partial = false) {
    this.#closed = false;
    this.#partial = partial && (this.#partial || !this.#isRequested);
    this.#isRequested = true;
    if (!this.#running) void this.#run();
  }

  /** @param {boolean} on */
  setPolling(on) {
    if (on === this.#polling) return;
    this.#polling = on;
    this.#schedule();
  }

  /** Something has changed for the better. */
  retryNow() {
    this.#retry.retryNow();
    if (this.#polling) this.refetch();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  shortenWait(hadFailed) {
    this.#retry.shortenWait(hadFailed);
  }

  /** The server is there again, as a socket tells: what a failure waits for is over. */
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

  #schedule() {
    this.#cancelPoll();
    this.#cancelPoll = () => {};
    if (!this.#polling) return;
    this.#cancelPoll = this.#clock.after(this.#pollIntervalMs * (0.75 + this.#random() / 2), () => this.refetch(true));
  }

  async #run() {
    this.#running = true;
    while (this.#isRequested && !this.#closed) {
      const partial = this.#partial;
      this.#isRequested = this.#partial = false;
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
        this.#partial = partial && (this.#partial || !this.#isRequested);
        this.#isRequested = true;
        this.#owner.onFailed(this.error);
        this.#becomeIdle();
        await this.#retry.wait(this.error);
      }
    }
    this.#running = false;
    this.#becomeIdle();
    this.#schedule();
  }

  #becomeIdle() {
    this.loading = false;
    this.#owner.onIdle?.();
  }
}

/**
 * What a conversation and the inbox tell of their loads.
 * @param {import("./types.js").Work} work
 * @param {{
 *   onFailed: (work: import("./types.js").Work, error: ChatError) => void, onDone: (work: import("./types.js").Work) => void,
 *   onRefused: (error: ChatError) => void, onChange: () => void,
 * }} owner `onRefused`: by the server, for this reason for the first time.
 * @returns {Pick<Owner, "onFailed" | "onRecovered">}
 */
export function reportLoads(work, { onFailed, onDone, onRefused, onChange }) {
  /** @type {ChatError | null} */
  let reported = null;
  return {
    onFailed: (error) => {
      onFailed(work, error);
      if (!error.retryable) {
        if (!isSameReason(error, reported)) onRefused(error);
        reported = error;
      }
      onChange();
    },
    onRecovered: () => {
      onDone(work);
      reported = null;
      onChange();
    },
  };
}
