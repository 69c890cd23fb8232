// How much is asked for at once: all of it on a fast line, less on one that took long for the last answer, and much less
// after one that did not come at all.

const SLOW_MS = 5_000;
const FAST_MS = 1_000;
const SMALLEST = 64;

export class PageSize {
  #clock;
  #divisor = 1;

  /** @param {{ elapsed: () => number }} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /** @param {number} most */
  of(most) {
    return Math.max(Math.ceil(most / this.#divisor), 1);
  }

  /**
   * Runs a request for one page, and learns from how long it takes.
   * @template T
   * @param {() => Promise<T>} ask
   * @returns {Promise<T>}
   */
  async measure(ask) {
    const began = this.#clock.elapsed();
    try {
      const page = await ask();
      const took = this.#clock.elapsed() - began;
      if (took > SLOW_MS) this.#divisor = Math.min(this.#divisor * 2, SMALLEST);
      else if (took < FAST_MS) this.#divisor = Math.max(this.#divisor / 2, 1);
      return page;
    } catch (error) {
      if (/** @type {any} */ (error)?.code === "timeout") this.#divisor = Math.min(this.#divisor * 4, SMALLEST);
      throw error;
    }
  }
}
