// One WebSocket that comes back: with the cursor of what was seen last, after a wait that suits what happened, and with
// a token that is good. It knows nothing of messages; frames and states go to whoever owns it.
//
// What the server refuses is asked for again as well, ever more rarely: what it refused may have been a passing mistake.

import { Backoff } from "./backoff.js";
import { toChatError, ChatError, isSameReason } from "./errors.js";
import { RetryTimer } from "./retry-timer.js";

const HANDSHAKE_TIMEOUT_MS = 15_000; // from opening to the first frame
const PING_AFTER_MS = 25_000; // then it is asked whether it is still there
const PONG_TIMEOUT_MS = 10_000; // and this long it may take to say so
const MAX_TIMER_LAG_MS = 5_000; // a timer that is so late was held up together with the answer: the machine or the page slept
const STABLE_AFTER_MS = 10_000; // what lived that long was a success
const OVERLOADED_DELAY_MS = 5_000; // 1013: the server has too much to do
const TOO_MANY_SOCKETS_DELAY_MS = 30_000; // 4429: this participant has too many sockets
const FORBIDDEN_DELAY_MS = 900_000; // 4403: no longer allowed
const MIN_TOKEN_RETRY_DELAY_MS = 1_000; // `rate_limited`: at least so long until a token is offered again
const OPEN = 1; // WebSocket.OPEN, which an injected class need not have

/**
 * @typedef {object} Owner
 * @property {() => Record<string, string>} query What the socket is for.
 * @property {() => Promise<unknown>} probe The same question over HTTP: tells why a handshake was refused, which browsers do not.
 * @property {(frame: any) => void} onFrame
 * @property {() => void} onChange State or error has.
 * @property {(work: import("./types.js").Work, error: ChatError) => void} onFailed It is tried again.
 * @property {(work: import("./types.js").Work) => void} onDone It is not tried again any more.
 */

export class ReconnectingSocket {
  /** @type {ChatError | null} Why there is no connection, as far as that is known. */
  error = null;
  #context;
  #owner;
  #retry;
  #renewalRetry;
  /** @type {import("./types.js").WebSocketLike | null} */
  #socket = null;
  /** @type {import("./types.js").SocketState} */
  #state = "closed";
  /** @type {string | null} */
  #cursor = null;
  #token = "";
  /** @type {string | null} A token that the server has not answered to yet. */
  #sentToken = null;
  #tokenBackoff;
  #isReady = false;
  #readyAt = 0;
  #hasReceived = false; // since somebody looked
  #receivedAt = 0;
  #isPinging = false;
  #renewing = 0; // the attempt whose token is being renewed
  #attemptCount = 0; // names the attempt that is under way; what belongs to an earlier one is ignored
  #cancelTimer = () => {};
  #cancelRenewal = () => {};
  /** @type {(() => void) | null} While a token waits to be offered again. */
  #cancelResend = null;

  /**
   * @param {import("./chat.js").Context} context
   * @param {Owner} owner
   */
  constructor(context, owner) {
    this.#context = context;
    this.#owner = owner;
    this.#retry = new RetryTimer(context);
    this.#renewalRetry = new RetryTimer(context, { base: 1_000, cap: 30_000 });
    this.#tokenBackoff = new Backoff(context.random, { base: 1_000, cap: 30_000 });
  }

  get state() {
    return this.#state;
  }

  /** Whether nobody tells at the moment what happens. */
  get isInterrupted() {
    return this.#state !== "live" && this.#state !== "closed";
  }

  open() {
    if (this.#state !== "closed") return;
    this.#setState("connecting", null);
    void this.#connect();
  }

  close() {
    this.#dropSocket();
    this.#retry.cancel();
    this.#retry.reset();
    this.#cursor = null;
    this.#owner.onDone("connection");
    this.#setState("closed", null);
  }

  /** Something has changed for the better (network, token): no reason to wait any longer. */
  retryNow() {
    if (this.#isReady) this.#ping(false);
    else this.#retry.retryNow();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  shortenWait(hadFailed) {
    this.#retry.shortenWait(hadFailed);
  }

  /**
   * @param {object} frame
   * @returns {boolean} Whether it was handed to the network.
   */
  send(frame) {
    if (!this.#isReady || this.#socket?.readyState !== OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** A fresh token, for the socket that is open. @param {string} token */
  updateToken(token) {
    if (token === this.#token || token === this.#sentToken) return;
    const before = this.#sentToken;
    this.#sentToken = token; // before the answer can come
    this.#cancelTokenResend(); // of the one before
    if (!this.send({ type: "auth", token })) this.#sentToken = before;
  }

  /**
   * The server did not hear some frame; perhaps the one with the token. It is offered again, unless an answer to it comes first.
   * @param {string} detail
   */
  #resendTokenLater(detail) {
    const token = this.#sentToken;
    if (token === null || this.#cancelResend) return;
    this.#cancelResend = this.#context.clock.after(this.#tokenBackoff.next(MIN_TOKEN_RETRY_DELAY_MS), () => {
      this.#cancelResend = this.#sentToken = null;
      this.updateToken(token);
    });
    this.#owner.onFailed("token", new ChatError(detail, { code: "token" }));
  }

  #cancelTokenResend() {
    this.#cancelResend?.();
    this.#cancelResend = null;
  }

  /** The server has answered to the token that was offered, or the socket has ended. */
  #finishTokenUpdate() {
    this.#cancelTokenResend();
    this.#tokenBackoff.reset();
    this.#sentToken = null;
  }

  async #connect() {
    const attempt = ++this.#attemptCount;
    try {
      this.#token = await this.#context.tokenProvider.getToken();
      if (attempt !== this.#attemptCount) return;
      const query = new URLSearchParams(this.#owner.query());
      if (this.#cursor) query.set("cursor", this.#cursor);
      const socket = new this.#context.WebSocket(`${this.#context.wsUrl}?${query}`, ["chat.v1", `bearer.${this.#token}`]);
      this.#socket = socket;
      socket.onmessage = (event) => { if (socket === this.#socket) this.#receive(event.data); };
      socket.onclose = (event) => { if (socket === this.#socket) void this.#handleClose(event.code, event.reason); };
      // `close` follows, except where it does not: Node.js 20 tells of a refused handshake by `error` alone.
      socket.onerror = () => { if (socket === this.#socket && !this.#isReady) void this.#handleClose(1006, ""); };
      this.#setTimer(HANDSHAKE_TIMEOUT_MS, () => void this.#handleClose(1006, "no answer to the handshake"));
    } catch (error) {
      if (attempt === this.#attemptCount) void this.#handleClose(1006, "", toChatError(error, "token"));
    }
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#hasReceived = true;
    this.#receivedAt = this.#context.clock.elapsed();
    /** @type {any} */
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return; // not of this protocol
    }
    if (typeof frame !== "object" || frame === null) return;
    switch (frame.type) {
      case "ready": this.#handleReady(); break;
      case "expiring": this.#scheduleRenewal(frame.expires_at); break;
      case "authenticated":
        if (this.#sentToken) this.#token = this.#sentToken;
        this.#finishTokenUpdate();
        this.#finishRenewal();
        break;
      case "error":
        if (frame.code === "rate_limited") this.#resendTokenLater(frame.detail);
        if (["unauthorized", "forbidden"].includes(frame.code) && this.#sentToken) {
          this.#context.tokenProvider.markRefused(this.#sentToken);
          this.#finishTokenUpdate();
          this.#owner.onFailed("token", new ChatError(frame.detail, { code: "token" }));
        }
        break;
    }
    this.#owner.onFrame(frame);
    if (typeof frame.cursor === "string") this.#cursor = frame.cursor; // only once it has been dealt with
    if (frame.type === "ready" || frame.type === "recovered") this.#setState("live", null);
    if (frame.type === "degraded") this.#setState("degraded", new ChatError("the server's live relay is interrupted", { code: "network" }));
  }

  #handleReady() {
    const { tokenProvider, clock } = this.#context;
    this.#isReady = true;
    this.#readyAt = clock.elapsed();
    this.#startHeartbeat();
    this.#owner.onDone("connection");
    if (tokenProvider.token !== this.#token) this.updateToken(tokenProvider.token); // it came during the handshake
  }

  /**
   * The connection is gone, or never was.
   * @param {number} code
   * @param {string} reason
   * @param {ChatError} [error]
   */
  async #handleClose(code, reason, error) {
    const wasReady = this.#isReady;
    const wasStable = wasReady && this.#context.clock.elapsed() - this.#readyAt > STABLE_AFTER_MS;
    this.#dropSocket();
    const attempt = this.#attemptCount;
    if (wasStable) this.#retry.reset();
    let why = code === 4403 ? new ChatError(reason || "no longer allowed", { status: 403 }) : error ?? null;
    this.#setState(code === 4403 ? "refused" : this.#state === "connecting" ? "connecting" : "reconnecting", why);
    if (code === 4401 || (!why && !wasReady && code !== 1013 && code !== 4429)) {
      why = await this.#diagnose(code === 4401);
      if (attempt !== this.#attemptCount) return;
    }
    why ??= new ChatError(wasReady ? `the connection was closed (${code})` : "no WebSocket connection, though HTTP works", { code: "network" });
    await this.#retryLater(why, { 1013: OVERLOADED_DELAY_MS, 4429: TOO_MANY_SOCKETS_DELAY_MS, 4403: FORBIDDEN_DELAY_MS }[code] ?? 0);
  }

  /**
   * Waits, and tries again. What was refused is asked for over HTTP first, which costs less than a handshake and tells why.
   * @param {ChatError} why
   * @param {number} more
   */
  async #retryLater(why, more) {
    const attempt = this.#attemptCount;
    /** @type {ChatError | null} */
    let problem = why;
    for (let wait = more; problem; wait = 0) {
      if (!problem.retryable) this.#setState("refused", problem);
      else if (this.#state !== "refused") this.#setState(this.#state, problem);
      this.#owner.onFailed("connection", problem);
      await this.#retry.wait(problem, wait);
      if (attempt !== this.#attemptCount) return;
      if (this.#state !== "refused") break;
      problem = await this.#diagnose(false);
      if (attempt !== this.#attemptCount) return;
    }
    if (this.#state === "refused") this.#setState("reconnecting", null);
    void this.#connect();
  }

  /**
   * Why there is no connection, as far as HTTP knows; null when HTTP works.
   * @param {boolean} tokenEnded
   * @returns {Promise<ChatError | null>}
   */
  async #diagnose(tokenEnded) {
    const { tokenProvider } = this.#context;
    try {
      if (tokenEnded) {
        tokenProvider.markRefused(this.#token);
        const fresh = await tokenProvider.renew(this.#token, "refused");
        return fresh ? new ChatError("the token was replaced", { code: "token" }) : new ChatError("the token has ended", { status: 401 });
      }
      await this.#owner.probe();
      return null;
    } catch (error) {
      return toChatError(error, "network");
    }
  }

  /** The server says that the token ends. It may say so at once, of a token that was just issued. @param {string} expires_at */
  #scheduleRenewal(expires_at) {
    const wait = this.#context.tokenProvider.getRenewalDelay(this.#token);
    this.#cancelRenewal();
    if (wait > 0) this.#cancelRenewal = this.#context.clock.after(wait, () => void this.#renew(expires_at));
    else void this.#renew(expires_at);
  }

  /** @param {string} expires_at */
  async #renew(expires_at) {
    const attempt = this.#attemptCount;
    if (this.#renewing === attempt) return;
    this.#renewing = attempt;
    const { tokenProvider } = this.#context;
    const { token } = tokenProvider;
    for (;;) {
      try {
        const fresh = await tokenProvider.renew(this.#token, "expiring");
        if (attempt !== this.#attemptCount) return;
        this.#renewing = 0; // before `expiring` can come again
        if (fresh) this.updateToken(fresh);
        else this.#context.onExpiring(expires_at);
        return;
      } catch (thrown) {
        if (attempt !== this.#attemptCount) return;
        const error = toChatError(thrown, "token");
        this.#owner.onFailed("token", error);
        await this.#renewalRetry.wait(error); // when the token ends meanwhile, 4401 asks again
        if (attempt !== this.#attemptCount) return;
        if (tokenProvider.token !== token) break;
      }
    }
    this.#renewing = 0;
  }

  #finishRenewal() {
    this.#cancelRenewal();
    this.#renewalRetry.cancel();
    this.#renewalRetry.reset();
    this.#owner.onDone("token");
  }

  /** A browser does not notice a line that went dead: ask, when nothing has come for a while. */
  #startHeartbeat() {
    this.#hasReceived = false;
    this.#isPinging = false;
    this.#receivedAt = this.#context.clock.elapsed();
    this.#startHeartbeatTimer(PING_AFTER_MS);
  }

  /** @param {number} ms */
  #startHeartbeatTimer(ms) {
    this.#setTimer(ms, () => {
      const left = PING_AFTER_MS - (this.#context.clock.elapsed() - this.#receivedAt);
      if (!this.#hasReceived || left <= 0) return this.#ping(false);
      this.#hasReceived = false;
      this.#startHeartbeatTimer(Math.min(left, PING_AFTER_MS));
    });
  }

  /** @param {boolean} isAgain */
  #ping(isAgain) {
    const { clock } = this.#context;
    const pingedAt = clock.elapsed();
    const wasAsking = this.#isPinging;
    if (!wasAsking || isAgain) this.#hasReceived = false;
    this.#isPinging = true;
    this.send({ type: "ping" });
    if (wasAsking && !isAgain) return; // whoever asks often must not wait for ever
    this.#setTimer(PONG_TIMEOUT_MS, () => {
      if (this.#hasReceived) this.#startHeartbeat();
      else if (!isAgain && clock.elapsed() - pingedAt > PONG_TIMEOUT_MS + MAX_TIMER_LAG_MS) this.#ping(true);
      else void this.#handleClose(1006, "silent");
    });
  }

  /** @param {number} ms @param {() => void} run */
  #setTimer(ms, run) {
    this.#cancelTimer();
    this.#cancelTimer = this.#context.clock.after(ms, run);
  }

  #dropSocket() {
    const socket = this.#socket;
    this.#attemptCount++;
    this.#cancelTimer();
    this.#finishRenewal();
    this.#socket = null;
    this.#isReady = this.#isPinging = false;
    this.#finishTokenUpdate();
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    try {
      socket.close(1000);
    } catch { /* it was not open yet */ }
  }

  /** @param {import("./types.js").SocketState} state @param {ChatError | null} error */
  #setState(state, error) {
    if (this.#state === "closed" && state !== "connecting") return;
    const changed = state !== this.#state || !isSameReason(error, this.error);
    this.#state = state;
    this.error = error;
    if (changed) this.#owner.onChange();
  }
}
