// Tells of each message that is new, by `seq`: one that comes by the socket while what was missed before it is still being
// loaded is told behind that. It is shown at once all the same.

const WAIT_MS = 2_000; // whoever is to be called does not wait for a server that answers slowly

/** @typedef {import("./types.js").Message} Message */

export class Announcer {
  #clock;
  #bound;
  #tell;
  /** @type {Message[]} */
  #untold = [];
  /** @type {(() => void) | null} */
  #timer = null;

  /**
   * @param {import("./types.js").Clock} clock
   * @param {() => number} bound `seq` of one that is still to come: what is behind it waits. Infinity when none is.
   * @param {(message: Message) => void} tell
   */
  constructor(clock, bound, tell) {
    this.#clock = clock;
    this.#bound = bound;
    this.#tell = tell;
  }

  /** @param {Message} message */
  add(message) {
    this.#untold.push(message);
    this.flush(this.#bound());
    if (this.#untold.length > 0) this.#timer ??= this.#clock.after(WAIT_MS, () => this.flush());
  }

  /** @param {number} [bound] */
  flush(bound = Infinity) {
    const ready = this.#untold.filter(({ seq }) => Number(seq) < bound).sort((a, b) => Number(a.seq) - Number(b.seq));
    this.#untold = this.#untold.filter(({ seq }) => Number(seq) >= bound);
    if (this.#untold.length === 0) {
      this.#timer?.();
      this.#timer = null;
    }
    for (const message of ready) this.#tell(message);
  }
}
