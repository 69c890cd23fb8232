// A clock whose time passes only when a test advances it.

export class FakeClock {
  #elapsed = 0;
  #wall = 1_795_000_000_000;
  #timers = new Set();

  now() {
    return this.#wall + this.#elapsed;
  }

  elapsed() {
    return this.#elapsed;
  }

  after(ms, run) {
    const timer = { at: this.#elapsed + Math.max(ms, 0), run };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  get waiting() {
    return this.#timers.size;
  }

  /** A user sets the machine's clock. */
  set(ms) {
    this.#wall += ms;
  }

  /** The machine sleeps, and its steady clock with it. */
  sleep(ms) {
    this.#wall += ms;
  }

  /** The browser suspends the page, as in the background. Timers that are due run late. */
  stall(ms) {
    this.#elapsed += ms;
  }

  /** Runs everything that needs no time. */
  async settle() {
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  }

  async advance(ms) {
    const end = this.#elapsed + ms;
    for (;;) {
      await this.settle();
      const next = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers.delete(next);
      this.#elapsed = Math.max(this.#elapsed, next.at);
      next.run();
    }
    this.#elapsed = Math.max(this.#elapsed, end);
    await this.settle();
  }
}

/** Random numbers from a seed (mulberry32): the same in every run. */
export function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
