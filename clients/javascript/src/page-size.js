// How much is asked for at once: all of it on a fast line, less on one that took long for the last answer, and much less
// after one that did not come at all. It grows again when answers come fast, and step by step where none can come fast (a line
// of high latency) as long as none is slow.

const SLOW_MS = 5_000;
const FAST_MS = 1_000;
const STEADY_RESPONSES = 4; // answers in a row that were neither slow nor fast
const MAX_DIVISOR = 64;

export class PageSize {
  #clock;
  #divisor = 1;
  #steady = 0;

  /** @param {{ elapsed: () => number }} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /** @param {number} max */
  limit(max) {
    return Math.max(Math.ceil(max / this.#divisor), 1);
  }

  /**
   * Runs a request for one page, and learns from how long it takes.
   * @template T
   * @param {() => Promise<T>} request
   * @returns {Promise<T>}
   */
  async measure(request) {
    const began = this.#clock.elapsed();
    try {
      const page = await request();
      const took = this.#clock.elapsed() - began;
      if (took > SLOW_MS) this.#shrink(2);
      else if (took < FAST_MS || ++this.#steady >= STEADY_RESPONSES) this.#grow();
      return page;
    } catch (error) {
      if (/** @type {any} */ (error)?.code === "timeout") this.#shrink(4);
      throw error;
    }
  }

  /** @param {number} factor */
  #shrink(factor) {
    this.#divisor = Math.min(this.#divisor * factor, MAX_DIVISOR);
    this.#steady = 0;
  }

  #grow() {
    this.#divisor = Math.max(this.#divisor / 2, 1);
    this.#steady = 0;
  }
}
