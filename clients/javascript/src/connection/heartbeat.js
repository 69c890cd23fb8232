// Detects a dead connection. Browsers report a broken line late or never. The client sends a ping 25 s after the last frame. Without any
// frame in the next 10 s the connection counts as dead. Both times count from the frame and the ping, not from the end of a check.

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
    this.#isPinging = false;
    this.recordActivity();
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
    if (!this.#isPinging) return; // the running check reads the time
    this.#isPinging = false;
    this.#checkIn(PING_AFTER_MS);
  }

  /** Checks the connection now. A check that runs already continues: a caller that pings often must not postpone its end. */
  ping() {
    if (this.#isPinging) this.#sendPing();
    else this.#startPing(false);
  }

  /** @param {boolean} isRepeated The timer of the ping before was late. */
  #startPing(isRepeated) {
    const pingedAt = this.#clock.elapsed();
    this.#isPinging = true;
    this.#setTimer(PONG_TIMEOUT_MS, () => {
      const isLate = this.#clock.elapsed() - pingedAt > PONG_TIMEOUT_MS + MAX_TIMER_LAG_MS;
      if (isLate && !isRepeated) this.#startPing(true);
      else this.#onSilent();
    });
    this.#sendPing(); // after the timer is set, which the answer replaces
  }

  /** @param {number} ms */
  #checkIn(ms) {
    this.#hasReceived = false;
    this.#setTimer(ms, () => {
      const leftMs = PING_AFTER_MS - (this.#clock.elapsed() - this.#receivedAt);
      // Without a frame since the last check the time is up, even if the page's clock was set back.
      if (this.#hasReceived && leftMs > 0) this.#checkIn(Math.min(leftMs, PING_AFTER_MS));
      else this.#startPing(false);
    });
  }

  /** @param {number} ms @param {() => void} run */
  #setTimer(ms, run) {
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.after(ms, run);
  }
}
