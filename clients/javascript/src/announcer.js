// Tells of each message that is new, by `seq`: one that comes by the socket while what was missed before it is still being
// loaded is told behind that. It is shown at once all the same.

const WAIT_MS = 2_000; // whoever is to be called does not wait for a server that answers slowly

/** @typedef {import("./types.js").Message} Message */

export class Announcer {
  #clock;
  #mustWait;
  #tell;
  /** @type {Message[]} */
  #untold = [];
  /** @type {(() => void) | null} */
  #timer = null;

  /**
   * @param {import("./types.js").Clock} clock
   * @param {() => boolean} mustWait Whether older ones may still come; `flush()` once they cannot.
   * @param {(message: Message) => void} tell
   */
  constructor(clock, mustWait, tell) {
    this.#clock = clock;
    this.#mustWait = mustWait;
    this.#tell = tell;
  }

  /** @param {Message} message */
  add(message) {
    this.#untold.push(message);
    if (!this.#mustWait()) this.flush();
    else this.#timer ??= this.#clock.after(WAIT_MS, () => this.flush());
  }

  flush() {
    this.#timer?.();
    this.#timer = null;
    for (const message of this.#untold.splice(0).sort((a, b) => Number(a.seq) - Number(b.seq))) this.#tell(message);
  }
}
