// Repeatable random values for property tests.

/** Numbers from 0 up to, but not including, 1. @param {number} seed */
export function createRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Calls `check` for many seeds; a failure names its seed. */
export function forSeeds(count, check) {
  for (let seed = 1; seed <= count; seed++) {
    const random = createRandom(seed);
    const pick = (list) => list[Math.floor(random() * list.length)];
    const integer = (from, to) => from + Math.floor(random() * (to - from + 1));
    try {
      check({ random, pick, integer });
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
}
