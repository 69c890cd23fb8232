// Reports each new message once, by `seq`. A message that arrives by the socket while earlier ones are still loading waits for them,
// for two seconds at most. The conversation shows it at once all the same.

const MAX_WAIT_MS = 2_000; // a notification must not wait for a slow server

/** @typedef {import("../types.js").Message} Message */

export class OrderedNotifier {
  #clock;
  #getFirstMissingSeq;
  #notify;
  /** @type {Message[]} */
  #waiting = [];
  /** @type {(() => void) | null} */
  #cancelTimer = null;

  /**
   * @param {import("../types.js").Clock} clock
   * @param {() => number} getFirstMissingSeq `seq` of the first message that is still loading; Infinity when none is.
   * @param {(message: Message) => void} notify
   */
  constructor(clock, getFirstMissingSeq, notify) {
    this.#clock = clock;
    this.#getFirstMissingSeq = getFirstMissingSeq;
    this.#notify = notify;
  }

  /** @param {Message} message */
  add(message) {
    this.#waiting.push(message);
    this.flush(this.#getFirstMissingSeq());
    if (this.#waiting.length > 0) this.#cancelTimer ??= this.#clock.after(MAX_WAIT_MS, () => this.flush());
  }

  /** Reports the waiting messages before this `seq`. @param {number} [firstMissingSeq] */
  flush(firstMissingSeq = Infinity) {
    const ready = this.#waiting.filter(({ seq }) => Number(seq) < firstMissingSeq).sort((a, b) => Number(a.seq) - Number(b.seq));
    this.#waiting = this.#waiting.filter(({ seq }) => Number(seq) >= firstMissingSeq);
    if (this.#waiting.length === 0) {
      this.#cancelTimer?.();
      this.#cancelTimer = null;
    }
    for (const message of ready) this.#notify(message);
  }
}
