// Notices that the machine or the page has slept: timers were held up, and connections may have died meanwhile without a
// word. Browsers tell of some such moments; of a lid that was shut under a page in view they do not.

const TICK_MS = 5_000;
const MIN_SLEEP_MS = 15_000; // more than a busy page is late

export class WakeDetector {
  #clock;
  #onWake;
  /** @type {(() => void) | null} */
  #cancel = null;

  /**
   * @param {import("./clock.js").FullClock} clock
   * @param {() => void} onWake
   */
  constructor(clock, onWake) {
    this.#clock = clock;
    this.#onWake = onWake;
  }

  /** @param {boolean} on */
  setEnabled(on) {
    if (on === (this.#cancel !== null)) return;
    this.#cancel?.();
    this.#cancel = null;
    if (on) this.#tick();
  }

  #tick() {
    const { now, elapsed, after } = this.#clock;
    const [wall, steady] = [now(), elapsed()];
    this.#cancel = after(TICK_MS, () => {
      this.#tick();
      // Some platforms stop the steady clock while they sleep; the wall clock may be set. A needless look costs a ping.
      if (Math.max(now() - wall, elapsed() - steady) > TICK_MS + MIN_SLEEP_MS) this.#onWake();
    });
  }
}
