// That somebody types: passed on now and then while they do here, and believed for a while when the other side does.

const NOTIFY_INTERVAL_MS = 2_000;
const PEER_TYPING_TIMEOUT_MS = 5_000;

export class TypingState {
  #clock;
  #notify;
  #onChange;
  #notifiedAt = -Infinity;
  /** @type {(() => void) | null} */
  #cancel = null;

  /**
   * @param {import("./clock.js").FullClock} clock
   * @param {() => boolean} notify Whether the other side could be told.
   * @param {() => void} onChange The other side has begun or stopped.
   */
  constructor(clock, notify, onChange) {
    this.#clock = clock;
    this.#notify = notify;
    this.#onChange = onChange;
  }

  /** Whether the other side types. */
  get active() {
    return this.#cancel !== null;
  }

  /** Somebody types here. */
  notifyPeer() {
    const now = this.#clock.elapsed();
    const since = now - this.#notifiedAt;
    if ((since < 0 || since >= NOTIFY_INTERVAL_MS) && this.#notify()) this.#notifiedAt = now;
  }

  /** What was typed here has been sent: what comes next is news again. */
  resetThrottle() {
    this.#notifiedAt = -Infinity;
  }

  /** The other side types. */
  startPeerTyping() {
    const was = this.active;
    this.#cancel?.();
    this.#cancel = this.#clock.after(PEER_TYPING_TIMEOUT_MS, () => this.stopPeerTyping());
    if (!was) this.#onChange();
  }

  /** The other side does not, or nobody knows. */
  stopPeerTyping() {
    if (!this.#cancel) return;
    this.#cancel();
    this.#cancel = null;
    this.#onChange();
  }
}
