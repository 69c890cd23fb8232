// Typing, in both directions. At most one notification every two seconds goes to the peer. A notification of the peer is valid for five
// seconds.

const NOTIFY_INTERVAL_MS = 2_000;
const PEER_TYPING_TIMEOUT_MS = 5_000;

export class TypingState {
  #clock;
  #notify;
  #onChange;
  #notifiedAt = -Infinity;
  /** @type {(() => void) | null} */
  #cancelTimeout = null;

  /**
   * @param {import("../time/clock.js").FullClock} clock
   * @param {() => boolean} notify Sends the notification. Returns whether it could.
   * @param {() => void} onChange The peer started or stopped to type.
   */
  constructor(clock, notify, onChange) {
    this.#clock = clock;
    this.#notify = notify;
    this.#onChange = onChange;
  }

  get isPeerTyping() {
    return this.#cancelTimeout !== null;
  }

  /** This side types. */
  notifyPeer() {
    const now = this.#clock.elapsed();
    const passedMs = now - this.#notifiedAt;
    if ((passedMs < 0 || passedMs >= NOTIFY_INTERVAL_MS) && this.#notify()) this.#notifiedAt = now;
  }

  /** The text was sent. The next keystroke notifies the peer at once. */
  resetThrottle() {
    this.#notifiedAt = -Infinity;
  }

  startPeerTyping() {
    const wasTyping = this.isPeerTyping;
    this.#cancelTimeout?.();
    this.#cancelTimeout = this.#clock.after(PEER_TYPING_TIMEOUT_MS, () => this.stopPeerTyping());
    if (!wasTyping) this.#onChange();
  }

  /** The peer stopped, or the state is unknown. */
  stopPeerTyping() {
    if (!this.#cancelTimeout) return;
    this.#cancelTimeout();
    this.#cancelTimeout = null;
    this.#onChange();
  }
}
