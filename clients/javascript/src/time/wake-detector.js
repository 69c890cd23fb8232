// Detects that the machine or the page has slept. Timers stop during a sleep, and connections may die without notice. Browsers
// report some sleeps by events. They do not report a lid that closes over a visible page.

const TICK_MS = 5_000;
const MIN_SLEEP_MS = 15_000; // more than a busy page delays a timer

export class WakeDetector {
  #clock;
  #onWake;
  /** @type {(() => void) | null} */
  #cancelTick = null;

  /**
   * @param {import("./clock.js").FullClock} clock
   * @param {() => void} onWake
   */
  constructor(clock, onWake) {
    this.#clock = clock;
    this.#onWake = onWake;
  }

  /** @param {boolean} isEnabled */
  setEnabled(isEnabled) {
    if (isEnabled === (this.#cancelTick !== null)) return;
    this.#cancelTick?.();
    this.#cancelTick = null;
    if (isEnabled) this.#tick();
  }

  #tick() {
    const { now, elapsed, after } = this.#clock;
    const [wallBefore, steadyBefore] = [now(), elapsed()];
    this.#cancelTick = after(TICK_MS, () => {
      this.#tick();
      // Some platforms stop the steady clock during a sleep, and a user may set the wall clock. A false alarm costs one ping.
      const passedMs = Math.max(now() - wallBefore, elapsed() - steadyBefore);
      if (passedMs > TICK_MS + MIN_SLEEP_MS) this.#onWake();
    });
  }
}
