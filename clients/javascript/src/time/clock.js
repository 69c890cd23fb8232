// The only module that touches the platform's timers. Durations come from a clock that no user can set (`elapsed`). The time of
// day (`now`) is for display and for ids.

/** @typedef {import("../types.js").Clock & { elapsed: () => number }} FullClock */

const MAX_TIMEOUT_MS = 2_147_483_647; // a longer timeout overflows and fires at once

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
 * A clock of the page. `now` replaces a missing `elapsed`.
 * @param {import("../types.js").Clock} clock
 * @returns {FullClock}
 */
export function completeClock(clock) {
  const { elapsed } = clock;
  return { now: () => clock.now(), after: (ms, run) => clock.after(ms, run), elapsed: () => (elapsed ? elapsed.call(clock) : clock.now()) };
}
