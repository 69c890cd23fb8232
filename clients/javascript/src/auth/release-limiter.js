// Limits how often a new token releases the work that waits for one. A page may answer each `unauthorized` with another token
// that the server refuses. The interval between two releases then grows from one second to one minute.

const MIN_INTERVAL_MS = 1_000;
const MAX_INTERVAL_MS = 60_000;

export class ReleaseLimiter {
  #clock;
  #onRelease;
  #wasRefused = false; // since the last release
  #releasedAt = -Infinity;
  #intervalMs = 0;
  #cancelTimer = () => {};

  /**
   * @param {import("../time/clock.js").FullClock} clock
   * @param {() => void} onRelease
   */
  constructor(clock, onRelease) {
    this.#clock = clock;
    this.#onRelease = onRelease;
  }

  /** The server refused the token in force. */
  recordRefusal() {
    this.#wasRefused = true;
  }

  /** Releases now, or when the interval has passed. */
  release() {
    const passedMs = this.#clock.elapsed() - this.#releasedAt;
    this.#intervalMs = this.#wasRefused ? Math.min(Math.max(this.#intervalMs * 2, MIN_INTERVAL_MS), MAX_INTERVAL_MS) : 0;
    this.#cancelTimer();
    if (passedMs < 0 || passedMs >= this.#intervalMs) this.#releaseNow();
    else this.#cancelTimer = this.#clock.after(this.#intervalMs - passedMs, () => this.#releaseNow());
  }

  cancel() {
    this.#cancelTimer();
  }

  #releaseNow() {
    this.#releasedAt = this.#clock.elapsed();
    this.#wasRefused = false;
    this.#onRelease();
  }
}
