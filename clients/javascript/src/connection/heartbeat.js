// Detects a dead connection. Browsers report a broken line late or never. After 25 s of silence the client sends a ping; without any
// frame in the next 10 s the connection counts as dead.

const PING_AFTER_MS = 25_000;
const PONG_TIMEOUT_MS = 10_000;
const MAX_TIMER_LAG_MS = 5_000; // a later timer means that the page slept, and the pong may wait behind it

export class Heartbeat {
  #clock;
  #sendPing;
  #onSilent;
  #hasReceived = false; // since the last check
  #receivedAt = 0;
  #isPinging = false;
  #cancelTimer = () => {};

  /**
   * @param {import("../time/clock.js").FullClock} clock
   * @param {() => void} sendPing
   * @param {() => void} onSilent
   */
  constructor(clock, sendPing, onSilent) {
    this.#clock = clock;
    this.#sendPing = sendPing;
    this.#onSilent = onSilent;
  }

  /** The connection is ready. */
  start() {
    this.#hasReceived = false;
    this.#isPinging = false;
    this.#receivedAt = this.#clock.elapsed();
    this.#checkIn(PING_AFTER_MS);
  }

  stop() {
    this.#cancelTimer();
    this.#isPinging = false;
  }

  /** A frame arrived. */
  recordActivity() {
    this.#hasReceived = true;
    this.#receivedAt = this.#clock.elapsed();
  }

  /** @param {boolean} [isRepeated] The timer of the ping before was late. */
  ping(isRepeated = false) {
    const pingedAt = this.#clock.elapsed();
    const wasPinging = this.#isPinging;
    if (!wasPinging || isRepeated) this.#hasReceived = false;
    this.#isPinging = true;
    this.#sendPing();
    if (wasPinging && !isRepeated) return; // a caller that pings often must not postpone the timeout for ever
    this.#setTimer(PONG_TIMEOUT_MS, () => {
      if (this.#hasReceived) this.start();
      else if (!isRepeated && this.#clock.elapsed() - pingedAt > PONG_TIMEOUT_MS + MAX_TIMER_LAG_MS) this.ping(true);
      else this.#onSilent();
    });
  }

  /** @param {number} ms */
  #checkIn(ms) {
    this.#setTimer(ms, () => {
      const leftMs = PING_AFTER_MS - (this.#clock.elapsed() - this.#receivedAt);
      if (!this.#hasReceived || leftMs <= 0) return this.ping();
      this.#hasReceived = false;
      this.#checkIn(Math.min(leftMs, PING_AFTER_MS));
    });
  }

  /** @param {number} ms @param {() => void} run */
  #setTimer(ms, run) {
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.after(ms, run);
  }
}
