// The delay before the next attempt: exponential with full jitter. Clients that lose their connection together do not return
// together. The delay has a fixed maximum.

const MAX_EXPONENT = 30;

export class Backoff {
  #random;
  #base;
  #cap;
  #attempts = 0;

  /**
   * @param {() => number} random From 0 up to, but not including, 1.
   * @param {{ base?: number, cap?: number }} [bounds] In milliseconds.
   */
  constructor(random, { base = 500, cap = 30_000 } = {}) {
    this.#random = random;
    this.#base = base;
    this.#cap = cap;
  }

  /**
   * Milliseconds to wait before the next attempt.
   * @param {number | null} [minMs] What the server asked for.
   */
  next(minMs) {
    const ceiling = Math.min(this.#cap, this.#base * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, MAX_EXPONENT);
    return (minMs ?? 0) + this.#random() * ceiling;
  }

  reset() {
    this.#attempts = 0;
  }
}
