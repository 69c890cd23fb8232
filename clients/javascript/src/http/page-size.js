// How many items one request asks for. The size is full on a fast line, half after a slow response, and a fourth after a timeout. It
// doubles again after a fast response. On a line of high latency, where no response is fast, it doubles after four that are not slow.
// It never falls below 1/64 of the maximum.

const SLOW_MS = 5_000;
const FAST_MS = 1_000;
const STEADY_RESPONSES = 4; // in a row, neither slow nor fast
const MAX_DIVISOR = 64;

export class PageSize {
  #clock;
  #divisor = 1;
  #steadyResponses = 0;

  /** @param {{ elapsed: () => number }} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /** The size of the next page. @param {number} max */
  limit(max) {
    return Math.max(Math.ceil(max / this.#divisor), 1);
  }

  /**
   * Runs a request for one page, and adapts the size to its duration.
   * @template T
   * @param {() => Promise<T>} request
   * @returns {Promise<T>}
   */
  async measure(request) {
    const startedAt = this.#clock.elapsed();
    try {
      const page = await request();
      const durationMs = this.#clock.elapsed() - startedAt;
      if (durationMs > SLOW_MS) this.#shrink(2);
      else if (durationMs < FAST_MS || ++this.#steadyResponses >= STEADY_RESPONSES) this.#grow();
      return page;
    } catch (error) {
      if (/** @type {any} */ (error)?.code === "timeout") this.#shrink(4);
      throw error;
    }
  }

  /** @param {number} factor */
  #shrink(factor) {
    this.#divisor = Math.min(this.#divisor * factor, MAX_DIVISOR);
    this.#steadyResponses = 0;
  }

  #grow() {
    this.#divisor = Math.max(this.#divisor / 2, 1);
    this.#steadyResponses = 0;
  }
}
