// Time that passes only when a test says so.

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

  /** Somebody sets the machine's clock. */
  set(ms) {
    this.#wall += ms;
  }

  /** The machine sleeps, and its steady clock with it. */
  sleep(ms) {
    this.#wall += ms;
  }

  /** The page is not let run, as in the background: what is due meanwhile comes late. */
  stall(ms) {
    this.#elapsed += ms;
  }

  /** Until all that can happen without time passing has happened. */
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

/** Numbers from a seed: the same in every run. (mulberry32) */
export function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
