// Time that passes only when a test says so.

export class FakeClock {
  #now = 1_795_000_000_000;
  #timers = new Set();

  now() {
    return this.#now;
  }

  after(ms, run) {
    const timer = { at: this.#now + Math.max(ms, 0), run };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  get waiting() {
    return this.#timers.size;
  }

  /** Until all that can happen without time passing has happened. */
  async settle() {
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  }

  async advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      await this.settle();
      const next = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers.delete(next);
      this.#now = next.at;
      next.run();
    }
    this.#now = end;
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
