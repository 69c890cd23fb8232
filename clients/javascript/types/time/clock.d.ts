/**
 * A clock of the page. `now` replaces a missing `elapsed`.
 * @param {import("../types.js").Clock} clock
 * @returns {FullClock}
 */
export function completeClock(clock: import("../types.js").Clock): FullClock;
/** @type {FullClock} */
export const systemClock: FullClock;
export type FullClock = import("../types.js").Clock & {
    elapsed: () => number;
};
