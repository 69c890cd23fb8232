// The delay between two requests for a token while the server refuses each token. It grows from one second to one minute, and
// ends when the server accepts a token.

const BASE_DELAY_MS = 1_000;
const MAX_DELAY_MS = 60_000;
const MAX_EXPONENT = 30;

export class RefusalDelay {
  #clock;
  #random;
  #count = 0;
  #startedAt = 0;
  #delayMs = 0;

  /** @param {{ clock: import("../time/clock.js").FullClock, random: () => number }} context */
  constructor({ clock, random }) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Whether a new request must wait. */
  get isActive() {
    const passedMs = this.#clock.elapsed() - this.#startedAt;
    return passedMs >= 0 && passedMs < this.#delayMs;
  }

  start() {
    const ceiling = Math.min(MAX_DELAY_MS, BASE_DELAY_MS * 2 ** this.#count);
    this.#count = Math.min(this.#count + 1, MAX_EXPONENT);
    this.#startedAt = this.#clock.elapsed();
    this.#delayMs = ceiling / 2 + (this.#random() * ceiling) / 2;
  }

  reset() {
    this.#count = this.#delayMs = 0;
  }
}
