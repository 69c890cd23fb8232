// When failed work is tried again. Every failure makes the wait longer; three things can cut it short: good news (`retryNow`),
// the success of other work (`shortenWait`), and the end of the work (`end`). Good news does not undercut what the server asked
// for. The success of other work counts less with every failure, so that work that cannot succeed is not repeated at the
// pace of work that does; it counts more when the other work had failed before.

import { Backoff } from "./backoff.js";

const BASE_REFUSED_DELAY_MS = 2_000; // of what the server has refused: it is likely to refuse it again
const MAX_REFUSED_DELAY_MS = 120_000;
const BASE_SHORTENED_WAIT_MS = 1_000;
const MAX_SHORTENED_WAIT_MS = 15_000;
const MAX_RECOVERED_WAIT_MS = 2_000;

/** @typedef {import("./errors.js").ChatError} ChatError */

export class RetryTimer {
  #clock;
  #backoff;
  #refused;
  #failures = 0;
  /** @type {{ retryNow: () => void, shortenWait: () => void, recovered: () => void, finish: () => void } | null} The wait under way. */
  #wait = null;

  /**
   * @param {{ clock: import("./types.js").Clock, random: () => number }} context
   * @param {{ base?: number, cap?: number }} [bounds] In milliseconds.
   */
  constructor({ clock, random }, bounds) {
    this.#clock = clock;
    this.#backoff = new Backoff(random, bounds);
    this.#refused = new Backoff(random, { base: BASE_REFUSED_DELAY_MS, cap: MAX_REFUSED_DELAY_MS });
  }

  /**
   * Waits, after a failure, until the next try.
   * @param {ChatError | null} error Why it failed, as far as that is known.
   * @param {number} [more] Milliseconds to wait in addition; good news ends them.
   * @returns {Promise<void>}
   */
  wait(error, more = 0) {
    this.cancel();
    this.#failures = Math.min(this.#failures + 1, 30);
    const requestedMs = error?.retryAfter ?? 0;
    const isRefused = error !== null && !error.retryable;
    const ms = requestedMs + more + (isRefused ? this.#refused : this.#backoff).next();
    const ignoredFor = this.#failures < 2 ? 0 : BASE_SHORTENED_WAIT_MS * 2 ** (this.#failures - 2);
    return new Promise((resolve) => {
      /** @type {(() => void)[]} */
      const timers = [];
      const finish = () => {
        for (const cancel of timers) cancel();
        this.#wait = null;
        resolve();
      };
      /** Ends the wait when called, but not before `floor`. @param {number} floor */
      const finishAfter = (floor) => {
        let isPast = floor <= 0;
        let isWanted = false;
        if (!isPast && floor < ms) timers.push(this.#clock.after(floor, () => { isPast = true; if (isWanted) finish(); }));
        return () => { isWanted = true; if (isPast) finish(); };
      };
      this.#wait = {
        retryNow: finishAfter(requestedMs),
        shortenWait: finishAfter(Math.max(requestedMs + more, Math.min(ignoredFor, MAX_SHORTENED_WAIT_MS))),
        recovered: finishAfter(Math.max(requestedMs + more, Math.min(ignoredFor, MAX_RECOVERED_WAIT_MS))),
        finish,
      };
      timers.push(this.#clock.after(ms, finish));
    });
  }

  /** The next failure is the first one. */
  reset() {
    this.#failures = 0;
    this.#backoff.reset();
    this.#refused.reset();
  }

  /** Something has changed for the better. */
  retryNow() {
    this.#wait?.retryNow();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  shortenWait(hadFailed) {
    if (hadFailed) this.#wait?.recovered();
    else this.#wait?.shortenWait();
  }

  /** Whatever it waits for. */
  cancel() {
    this.#wait?.finish();
  }
}
