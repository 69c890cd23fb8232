// How long to wait before trying again: exponential, with full jitter, so that many clients cut off together do not
// come back together.

export class Backoff {
  #random;
  #base;
  #cap;
  #tries = 0;

  /**
   * @param {() => number} random 0 up to, but not including, 1.
   * @param {{ base?: number, cap?: number }} [bounds] In milliseconds.
   */
  constructor(random, { base = 500, cap = 30_000 } = {}) {
    this.#random = random;
    this.#base = base;
    this.#cap = cap;
  }

  /**
   * Milliseconds to wait now.
   * @param {number | null} [atLeast] What the server asked for.
   */
  next(atLeast) {
    const ceiling = Math.min(this.#cap, this.#base * 2 ** this.#tries);
    this.#tries = Math.min(this.#tries + 1, 30);
    return (atLeast ?? 0) + this.#random() * ceiling;
  }

  reset() {
    this.#tries = 0;
  }
}
