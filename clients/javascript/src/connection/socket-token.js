// The token of one socket: the one of its handshake, and the ones that follow it on the open socket. It renews a token when the
// gateway announces its end. It sends a token again when the gateway did not look at it (`rate_limited`).
//
// `reset` ends all of this with the connection. Work of an earlier connection changes nothing any more.

import { ChatError, toChatError } from "../errors.js";
import { Backoff } from "../retry/backoff.js";
import { RetryTimer } from "../retry/retry-timer.js";

const MIN_RESEND_DELAY_MS = 1_000;

/**
 * @typedef {object} Owner
 * @property {(frame: object) => boolean} send Whether the frame went to the network.
 * @property {(error: ChatError) => void} onFailed The token could not be replaced. The next attempt follows.
 * @property {() => void} onDone
 */

export class SocketToken {
  /** The token that the gateway accepted last, or that the handshake shows. */
  token = "";
  #context;
  #owner;
  #connection = 0; // identifies the connection that pending work belongs to
  /** @type {string | null} Sent on the open socket and not yet answered. */
  #sentToken = null;
  #resendBackoff;
  /** @type {(() => void) | null} While a token waits for its next attempt. */
  #cancelResend = null;
  #isRenewing = false;
  #renewalRetry;
  #cancelRenewal = () => {};

  /**
   * @param {import("../context.js").Context} context
   * @param {Owner} owner
   */
  constructor(context, owner) {
    this.#context = context;
    this.#owner = owner;
    this.#resendBackoff = new Backoff(context.random, { base: 1_000, cap: 30_000 });
    this.#renewalRetry = new RetryTimer(context, { base: 1_000, cap: 30_000 });
  }

  /** The socket is open. A token that came during the handshake follows. */
  onReady() {
    const { token } = this.#context.tokenProvider;
    if (token !== this.token) this.update(token);
  }

  /** Sends a fresh token on the open socket. @param {string} token */
  update(token) {
    if (token === this.token || token === this.#sentToken) return;
    const before = this.#sentToken;
    this.#sentToken = token; // set before the answer can arrive
    this.#stopResend();
    if (!this.#owner.send({ type: "auth", token })) this.#sentToken = before;
  }

  /** @param {any} frame */
  handleFrame(frame) {
    switch (frame.type) {
      case "expiring": this.#scheduleRenewal(frame.expires_at); break;
      case "authenticated":
        if (this.#sentToken) this.token = this.#sentToken;
        this.#finishUpdate();
        this.#finishRenewal();
        break;
      case "error":
        if (frame.code === "rate_limited") this.#resendLater(frame.detail);
        if ((frame.code === "unauthorized" || frame.code === "forbidden") && this.#sentToken) {
          this.#context.tokenProvider.markRefused(this.#sentToken);
          this.#finishUpdate();
          this.#owner.onFailed(new ChatError(frame.detail, { code: frame.cause ?? frame.code }));
        }
        break;
    }
  }

  /** The connection has ended. */
  reset() {
    this.#connection++;
    this.#isRenewing = false;
    this.#finishRenewal();
    this.#finishUpdate();
  }

  /**
   * The gateway dropped a frame, perhaps the one with the token. The token follows again, unless an answer to it arrives first.
   * @param {string} detail
   */
  #resendLater(detail) {
    const token = this.#sentToken;
    if (token === null || this.#cancelResend) return;
    this.#cancelResend = this.#context.clock.after(this.#resendBackoff.next(MIN_RESEND_DELAY_MS), () => {
      this.#cancelResend = this.#sentToken = null;
      this.update(token);
    });
    this.#owner.onFailed(new ChatError(detail, { code: "rate_limited" }));
  }

  #stopResend() {
    this.#cancelResend?.();
    this.#cancelResend = null;
  }

  /** The gateway answered the sent token, or the connection has ended. */
  #finishUpdate() {
    this.#stopResend();
    this.#resendBackoff.reset();
    this.#sentToken = null;
  }

  /** The gateway announces the end of the token. It may do so right after the token was issued. @param {string} expires_at */
  #scheduleRenewal(expires_at) {
    const delayMs = this.#context.tokenProvider.getRenewalDelay(this.token);
    this.#cancelRenewal();
    if (delayMs > 0) this.#cancelRenewal = this.#context.clock.after(delayMs, () => void this.#renew(expires_at));
    else void this.#renew(expires_at);
  }

  /** @param {string} expires_at */
  async #renew(expires_at) {
    if (this.#isRenewing) return;
    this.#isRenewing = true;
    const connection = this.#connection;
    const { tokenProvider } = this.#context;
    const { token } = tokenProvider;
    for (;;) {
      try {
        const fresh = await tokenProvider.renew(this.token, "expiring");
        if (connection !== this.#connection) return;
        this.#isRenewing = false; // reset before the next `expiring` can arrive
        if (fresh) this.update(fresh);
        else this.#context.onExpiring(expires_at);
        return;
      } catch (thrown) {
        if (connection !== this.#connection) return;
        const error = toChatError(thrown, "token");
        this.#owner.onFailed(error);
        await this.#renewalRetry.wait(error); // if the token ends during the wait, close code 4401 starts another renewal
        if (connection !== this.#connection) return;
        if (tokenProvider.token !== token) break;
      }
    }
    this.#isRenewing = false;
  }

  #finishRenewal() {
    this.#cancelRenewal();
    this.#renewalRetry.cancel();
    this.#renewalRetry.reset();
    this.#owner.onDone();
  }
}
