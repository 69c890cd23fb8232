// Handshakes that failed one after the other although HTTP worked. After some of them, over some time, something between page and
// gateway blocks WebSockets. A gateway that restarts fails fewer, or for a shorter time.

import { ChatError } from "../errors.js";

const MIN_FAILURES = 3;
const MIN_DURATION_MS = 5_000;

export class HandshakeFailures {
  /** @type {ChatError | null} Set when WebSockets are blocked. */
  error = null;
  #clock;
  #count = 0;
  #firstAt = 0;

  /** @param {import("../time/clock.js").FullClock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /** A handshake failed, and HTTP worked right after it. */
  record() {
    const now = this.#clock.elapsed();
    if (this.#count++ === 0) this.#firstAt = now;
    if (this.#count < MIN_FAILURES || now - this.#firstAt < MIN_DURATION_MS) return;
    this.error ??= new ChatError(
      "HTTP works, but no WebSocket opens: a proxy or a firewall blocks it, the server does not accept the page's origin, or no gateway runs",
      { code: "websocket_blocked" },
    );
  }

  /** A handshake succeeded, or HTTP fails too. */
  reset() {
    this.error = null;
    this.#count = 0;
  }
}
