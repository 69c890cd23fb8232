// Time, and waiting: the only place that touches the platform's timers.

/** @type {import("./types.js").Clock} */
export const systemClock = {
  now: () => Date.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/** A wait that can be cut short. */
export class Pause {
  #clock;
  /** @type {(() => void) | null} */
  #end = null;

  /** @param {import("./types.js").Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /**
   * @param {number} ms
   * @returns {Promise<void>}
   */
  wait(ms) {
    this.end();
    return new Promise((resolve) => {
      const cancel = this.#clock.after(ms, () => this.end());
      this.#end = () => { cancel(); this.#end = null; resolve(); };
    });
  }

  /** Whoever waits goes on now. */
  end() {
    this.#end?.();
  }
}
