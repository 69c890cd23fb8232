// That somebody types: passed on now and then while they do here, and believed for a while when the other side does.

const EVERY_MS = 2_000;
const LASTS_MS = 5_000;

export class Typing {
  #clock;
  #tell;
  #changed;
  #toldAt = -Infinity;
  /** @type {(() => void) | null} */
  #cancel = null;

  /**
   * @param {import("./clock.js").FullClock} clock
   * @param {() => boolean} tell Whether the other side could be told.
   * @param {() => void} changed The other side has begun or stopped.
   */
  constructor(clock, tell, changed) {
    this.#clock = clock;
    this.#tell = tell;
    this.#changed = changed;
  }

  /** Whether the other side types. */
  get active() {
    return this.#cancel !== null;
  }

  /** Somebody types here. */
  here() {
    const now = this.#clock.elapsed();
    const since = now - this.#toldAt;
    if ((since < 0 || since >= EVERY_MS) && this.#tell()) this.#toldAt = now;
  }

  /** What was typed here has been sent: what comes next is news again. */
  sent() {
    this.#toldAt = -Infinity;
  }

  /** The other side types. */
  there() {
    const was = this.active;
    this.#cancel?.();
    this.#cancel = this.#clock.after(LASTS_MS, () => this.stopped());
    if (!was) this.#changed();
  }

  /** The other side does not, or nobody knows. */
  stopped() {
    if (!this.#cancel) return;
    this.#cancel();
    this.#cancel = null;
    this.#changed();
  }
}
