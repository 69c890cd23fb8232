// A delay that its owner can end early. At most one delay runs; a new one ends the one before.

export class CancellableDelay {
  #clock;
  /** @type {(() => void) | null} */
  #finish = null;

  /** @param {import("../types.js").Clock} clock */
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
      const cancelTimer = this.#clock.after(ms, () => this.cancel());
      this.#finish = () => { cancelTimer(); this.#finish = null; resolve(); };
    });
  }

  /** Resolves the promise of the running delay. */
  cancel() {
    this.#finish?.();
  }
}
