// Tells of each message that is new, by `seq`: one that comes by the socket while what was missed before it is still being
// loaded is told behind that. It is shown at once all the same.

const MAX_WAIT_MS = 2_000; // whoever is to be called does not wait for a server that answers slowly

/** @typedef {import("./types.js").Message} Message */

export class OrderedNotifier {
  #clock;
  #firstMissing;
  #notify;
  /** @type {Message[]} */
  #waiting = [];
  /** @type {(() => void) | null} */
  #timer = null;

  /**
   * @param {import("./types.js").Clock} clock
   * @param {() => number} firstMissing `seq` of one that is still to come: what is behind it waits. Infinity when none is.
   * @param {(message: Message) => void} notify
   */
  constructor(clock, firstMissing, notify) {
    this.#clock = clock;
    this.#firstMissing = firstMissing;
    this.#notify = notify;
  }

  /** @param {Message} message */
  add(message) {
    this.#waiting.push(message);
    this.flush(this.#firstMissing());
    if (this.#waiting.length > 0) this.#timer ??= this.#clock.after(MAX_WAIT_MS, () => this.flush());
  }

  /** @param {number} [bound] */
  flush(bound = Infinity) {
    const ready = this.#waiting.filter(({ seq }) => Number(seq) < bound).sort((a, b) => Number(a.seq) - Number(b.seq));
    this.#waiting = this.#waiting.filter(({ seq }) => Number(seq) >= bound);
    if (this.#waiting.length === 0) {
      this.#timer?.();
      this.#timer = null;
    }
    for (const message of ready) this.#notify(message);
  }
}
