// Time, and waiting: the only place that touches the platform's timers. Durations come from a clock that nobody can set
// (`elapsed`); the time of day (`now`) is for what people read and for ids.

/** @typedef {import("./types.js").Clock & { elapsed: () => number }} FullClock */

const MAX_TIMEOUT_MS = 2_147_483_647; // a longer timeout would overflow and end at once

/** @type {FullClock} */
export const systemClock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, Math.min(ms, MAX_TIMEOUT_MS));
    return () => clearTimeout(timer);
  },
};

/**
 * A clock that was given, with what it lacks.
 * @param {import("./types.js").Clock} clock
 * @returns {FullClock}
 */
export function completeClock(clock) {
  const { elapsed } = clock;
  return { now: () => clock.now(), after: (ms, run) => clock.after(ms, run), elapsed: () => (elapsed ? elapsed.call(clock) : clock.now()) };
}

/** A wait that can be cut short. */
export class CancellableDelay {
  #clock;
  /** @type {(() => void) | null} */
  #finish = null;

  /** @param {import("./types.js").Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /**
   * @param {number} ms
   * @returns {Promise<void>}
   */
  wait(ms) {
    this.cancel();
    return new Promise((resolve) => {
      const cancel = this.#clock.after(ms, () => this.cancel());
      this.#finish = () => { cancel(); this.#finish = null; resolve(); };
    });
  }

  /** The wait, if there is one, is over. */
  cancel() {
    this.#finish?.();
  }
}
