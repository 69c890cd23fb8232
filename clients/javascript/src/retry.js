// When failed work is tried again. Every failure makes the wait longer; three things can cut it short: good news (`hurry`),
// the success of other work (`nudge`), and the end of the work (`end`). Good news does not undercut what the server asked
// for. The success of other work counts less with every failure, so that work that cannot succeed is not repeated at the
// pace of work that does; it counts more when the other work had failed before.

import { Backoff } from "./backoff.js";

const REFUSED_BASE_MS = 2_000; // of what the server has refused: it is likely to refuse it again
const REFUSED_CAP_MS = 120_000;
const NUDGE_BASE_MS = 1_000;
const NUDGE_CAP_MS = 15_000;
const RECOVERED_CAP_MS = 2_000;

/** @typedef {import("./errors.js").ChatError} ChatError */

export class Retry {
  #clock;
  #backoff;
  #refused;
  #failures = 0;
  /** @type {{ hurry: () => void, nudge: () => void, recovered: () => void, end: () => void } | null} The wait under way. */
  #wait = null;

  /**
   * @param {{ clock: import("./types.js").Clock, random: () => number }} context
   * @param {{ base?: number, cap?: number }} [bounds] In milliseconds.
   */
  constructor({ clock, random }, bounds) {
    this.#clock = clock;
    this.#backoff = new Backoff(random, bounds);
    this.#refused = new Backoff(random, { base: REFUSED_BASE_MS, cap: REFUSED_CAP_MS });
  }

  /**
   * Waits, after a failure, until the next try.
   * @param {ChatError | null} error Why it failed, as far as that is known.
   * @param {number} [more] Milliseconds to wait in addition; good news ends them.
   * @returns {Promise<void>}
   */
  wait(error, more = 0) {
    this.end();
    const failures = (this.#failures = Math.min(this.#failures + 1, 30));
    const asked = error?.retryAfter ?? 0;
    const isRefused = error !== null && !error.retryable;
    const ms = asked + more + (isRefused ? this.#refused : this.#backoff).next();
    const unheeded = failures < 2 ? 0 : NUDGE_BASE_MS * 2 ** (failures - 2);
    return new Promise((resolve) => {
      /** @type {(() => void)[]} */
      const timers = [];
      const end = () => {
        for (const cancel of timers) cancel();
        this.#wait = null;
        resolve();
      };
      /** Ends the wait when called, but not before `floor`. @param {number} floor */
      const endAfter = (floor) => {
        let isPast = floor <= 0;
        let isWanted = false;
        if (!isPast && floor < ms) timers.push(this.#clock.after(floor, () => { isPast = true; if (isWanted) end(); }));
        return () => { isWanted = true; if (isPast) end(); };
      };
      this.#wait = {
        hurry: endAfter(asked),
        nudge: endAfter(Math.max(asked + more, Math.min(unheeded, NUDGE_CAP_MS))),
        recovered: endAfter(Math.max(asked + more, Math.min(unheeded, RECOVERED_CAP_MS))),
        end,
      };
      timers.push(this.#clock.after(ms, end));
    });
  }

  /** The next failure is the first one. */
  succeeded() {
    this.#failures = 0;
    this.#backoff.reset();
    this.#refused.reset();
  }

  /** Something has changed for the better. */
  hurry() {
    this.#wait?.hurry();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  nudge(hadFailed) {
    if (hadFailed) this.#wait?.recovered();
    else this.#wait?.nudge();
  }

  /** Whatever it waits for. */
  end() {
    this.#wait?.end();
  }
}
