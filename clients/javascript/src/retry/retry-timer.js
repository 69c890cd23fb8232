// Decides when failed work runs again. Each failure makes the wait longer, up to a maximum. Four events end a wait early:
//
// - `retryNow`: the network, the page or a token is back. It respects the `Retry-After` of the server, unless the user asked for it.
// - `shortenWait`: other work succeeded. Each failure makes this count less, so work that cannot succeed does not follow the pace
//   of work that does. Success of work that had failed before counts more.
// - `cancel`: the owner gives the work up.
// - the end of the wait.

import { Backoff } from "./backoff.js";

const BASE_REFUSED_DELAY_MS = 2_000; // the server is likely to refuse the same request again
const MAX_REFUSED_DELAY_MS = 120_000;
const BASE_SHORTENED_WAIT_MS = 1_000;
const MAX_SHORTENED_WAIT_MS = 15_000;
const MAX_RECOVERED_WAIT_MS = 2_000;
const MAX_COUNTED_FAILURES = 30;

/** @typedef {import("../errors.js").ChatError} ChatError */
/** @typedef {{ retryNow: () => void, shortenWait: () => void, recovered: () => void, finish: () => void }} Wait */

export class RetryTimer {
  #clock;
  #backoff;
  #refusedBackoff;
  #failures = 0;
  /** @type {Wait | null} */
  #wait = null;
  /** @type {number | null} */
  #dueAt = null;

  /**
   * @param {{ clock: import("../types.js").Clock, random: () => number }} context
   * @param {{ base?: number, cap?: number }} [bounds] In milliseconds.
   */
  constructor({ clock, random }, bounds) {
    this.#clock = clock;
    this.#backoff = new Backoff(random, bounds);
    this.#refusedBackoff = new Backoff(random, { base: BASE_REFUSED_DELAY_MS, cap: MAX_REFUSED_DELAY_MS });
  }

  /**
   * Waits after a failure until the next attempt.
   * @param {ChatError | null} error The reason, if it is known.
   * @param {number} [extraMs] Added to the wait. `retryNow` skips it.
   * @returns {Promise<void>}
   */
  wait(error, extraMs = 0) {
    this.cancel();
    this.#failures = Math.min(this.#failures + 1, MAX_COUNTED_FAILURES);
    const requestedMs = error?.retryAfter ?? 0;
    const isRefused = error !== null && !error.retryable;
    const totalMs = requestedMs + extraMs + (isRefused ? this.#refusedBackoff : this.#backoff).next();
    return new Promise((resolve) => this.#startWait(totalMs, requestedMs, extraMs, resolve));
  }

  /** The next failure counts as the first one. */
  reset() {
    this.#failures = 0;
    this.#backoff.reset();
    this.#refusedBackoff.reset();
  }

  /** When the next attempt is due at the latest, in milliseconds since 1970; null while nothing waits. */
  get dueAt() {
    return this.#dueAt;
  }

  /** The network, the page or a token is back. @param {boolean} [isForced] Not even the server's `Retry-After` counts. */
  retryNow(isForced = false) {
    if (isForced) this.#wait?.finish();
    else this.#wait?.retryNow();
  }

  /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
  shortenWait(hadFailed) {
    if (hadFailed) this.#wait?.recovered();
    else this.#wait?.shortenWait();
  }

  /** Ends the wait at once. */
  cancel() {
    this.#wait?.finish();
  }

  /** @param {number} totalMs @param {number} requestedMs @param {number} extraMs @param {() => void} resolve */
  #startWait(totalMs, requestedMs, extraMs, resolve) {
    /** @type {(() => void)[]} */
    const cancelTimers = [];
    const finish = () => {
      for (const cancelTimer of cancelTimers) cancelTimer();
      this.#wait = this.#dueAt = null;
      resolve();
    };
    /** A function that ends the wait, but not before `minMs` have passed. @param {number} minMs */
    const finishAfter = (minMs) => {
      let isPast = minMs <= 0;
      let isRequested = false;
      if (!isPast && minMs < totalMs) cancelTimers.push(this.#clock.after(minMs, () => { isPast = true; if (isRequested) finish(); }));
      return () => { isRequested = true; if (isPast) finish(); };
    };
    const ignoredMs = this.#failures < 2 ? 0 : BASE_SHORTENED_WAIT_MS * 2 ** (this.#failures - 2);
    this.#wait = {
      retryNow: finishAfter(requestedMs),
      shortenWait: finishAfter(Math.max(requestedMs + extraMs, Math.min(ignoredMs, MAX_SHORTENED_WAIT_MS))),
      recovered: finishAfter(Math.max(requestedMs + extraMs, Math.min(ignoredMs, MAX_RECOVERED_WAIT_MS))),
      finish,
    };
    this.#dueAt = this.#clock.now() + totalMs;
    cancelTimers.push(this.#clock.after(totalMs, finish));
  }
}
