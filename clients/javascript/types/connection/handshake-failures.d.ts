export class HandshakeFailures {
    /** @param {import("../time/clock.js").FullClock} clock */
    constructor(clock: import("../time/clock.js").FullClock);
    /** @type {ChatError | null} Set when WebSockets are blocked. */
    error: ChatError | null;
    /** A handshake failed, and HTTP worked right after it. */
    record(): void;
    /** A handshake succeeded, or HTTP fails too. */
    reset(): void;
    #private;
}
import { ChatError } from "../errors.js";
