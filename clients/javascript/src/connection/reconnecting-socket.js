// A WebSocket that reconnects: with the cursor of the last frame, after a delay that suits the failure, and with a valid token. It
// knows nothing of messages. Frames and states go to its owner.
//
// It also retries what the server refuses, less and less often, because a refusal may be a passing error. Each attempt has a number.
// Events and results of earlier attempts are ignored.

import { ChatError, codeOfClose, isSameReason, toChatError } from "../errors.js";
import { RetryTimer } from "../retry/retry-timer.js";
import { HandshakeFailures } from "./handshake-failures.js";
import { Heartbeat } from "./heartbeat.js";
import { SocketToken } from "./socket-token.js";

const HANDSHAKE_TIMEOUT_MS = 15_000; // from opening to the first frame
const HANDSHAKE_PATIENCE_MS = 3_000; // a user who asks for a new attempt does not end a younger one
const STABLE_AFTER_MS = 10_000; // a connection that lived so long resets the backoff
const OPEN = 1; // WebSocket.OPEN, which an injected class may lack

// Close codes of asyncapi.yaml. 1006 is the browser's code for a connection that ended without a closing handshake.
const ABNORMAL = 1006;
const OVERLOADED = 1013;
const TOKEN_INVALID = 4401;
const FORBIDDEN = 4403;
const TOO_MANY_SOCKETS = 4429;
const CLOSE_DELAYS_MS = new Map([[OVERLOADED, 5_000], [TOO_MANY_SOCKETS, 30_000], [FORBIDDEN, 900_000]]);

/** @typedef {import("../types.js").SocketState} SocketState */
/** @typedef {Exclude<SocketState, "offline" | "blocked">} Phase */

/**
 * @typedef {object} Owner
 * @property {() => Record<string, string>} query What the socket subscribes to.
 * @property {() => Promise<unknown>} probe The same subscription over HTTP. It gives the reason for a refused handshake, which
 *   browsers hide.
 * @property {(frame: any) => void} onFrame
 * @property {() => void} onChange The state, the error or the time of the next attempt changed.
 */

export class ReconnectingSocket {
  #context;
  #retryList;
  #owner;
  #retry;
  #heartbeat;
  #socketToken;
  /** @type {import("../types.js").WebSocketLike | null} */
  #socket = null;
  /** @type {Phase} */
  #phase = "closed";
  /** @type {ChatError | null} The reason for the phase. */
  #reason = null;
  #failures;
  /** @type {{ state: SocketState, error: ChatError | null, retryAt: number | null }} What the owner knows. */
  #reported = { state: "closed", error: null, retryAt: null };
  /** @type {string | null} */
  #cursor = null;
  #isReady = false;
  #readyAt = 0;
  #openedAt = 0;
  #attempt = 0;
  #cancelHandshakeTimer = () => {};

  /**
   * @param {import("../context.js").Context} context
   * @param {import("../retry/retry-list.js").RetryList} retryList
   * @param {Owner} owner
   */
  constructor(context, retryList, owner) {
    this.#context = context;
    this.#retryList = retryList;
    this.#owner = owner;
    this.#retry = new RetryTimer(context);
    this.#failures = new HandshakeFailures(context.clock);
    this.#heartbeat = new Heartbeat(context.clock, () => this.send({ type: "ping" }), () => void this.#handleClose(ABNORMAL, "silent"));
    this.#socketToken = new SocketToken(context, {
      send: (frame) => this.send(frame),
      onFailed: (error) => retryList.add("token", error),
      onDone: () => retryList.remove("token"),
    });
  }

  /** @returns {SocketState} */
  get state() {
    const phase = this.#phase;
    const { network } = this.#context;
    if (phase === "closed" || phase === "refused") return phase;
    if (phase === "live" || phase === "degraded") return network.isPlatformOffline ? "offline" : phase;
    if (network.error) return network.error.code === "origin_blocked" ? "blocked" : "offline";
    return this.#failures.error ? "blocked" : phase;
  }

  /** Why there is no connection, if the reason is known. @returns {ChatError | null} */
  get error() {
    switch (this.state) {
      case "offline": return this.#context.network.error;
      case "blocked": return this.#context.network.error ?? this.#failures.error;
      default: return this.#reason;
    }
  }

  /** When the next attempt is due at the latest, in milliseconds since 1970; null while nothing waits. */
  get retryAt() {
    return this.#retry.dueAt;
  }

  /** Whether changes do not arrive by frames at present. */
  get isInterrupted() {
    const { state } = this;
    return state !== "live" && state !== "closed";
  }

  open() {
    if (this.#phase !== "closed") return;
    this.#setPhase("connecting", null);
    void this.#connect();
  }

  close() {
    this.#dropSocket();
    this.#retry.cancel();
    this.#retry.reset();
    this.#failures.reset();
    this.#cursor = null;
    this.#retryList.remove("connection");
    this.#setPhase("closed", null);
  }

  /**
   * The network, the page or a token is back: check the connection, or connect without a wait.
   * @param {boolean} [isForced] The user asks for an attempt.
   */
  retryNow(isForced = false) {
    if (this.#isReady) return this.#heartbeat.ping();
    const isHanging = this.#socket !== null && this.#context.clock.elapsed() - this.#openedAt > HANDSHAKE_PATIENCE_MS;
    if (!isForced || !isHanging) return this.#retry.retryNow(isForced);
    this.#dropSocket();
    void this.#connect();
  }

  /** The network came or went, as far as the chat knows. */
  onNetworkChange() {
    const { network } = this.#context;
    if (network.error) this.#failures.reset(); // the next network may let sockets pass
    if (network.isPlatformOffline && this.#isReady) this.#heartbeat.ping();
    this.#report();
  }

  /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
  shortenWait(hadFailed) {
    this.#retry.shortenWait(hadFailed);
  }

  /**
   * @param {object} frame
   * @returns {boolean} Whether the frame went to the network.
   */
  send(frame) {
    if (!this.#isReady || this.#socket?.readyState !== OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Sends a fresh token on the open socket. @param {string} token */
  updateToken(token) {
    this.#socketToken.update(token);
  }

  async #connect() {
    const attempt = ++this.#attempt;
    try {
      const token = await this.#context.tokenProvider.getToken();
      this.#socketToken.token = token;
      if (attempt !== this.#attempt) return;
      this.#openSocket(token);
      this.#cancelHandshakeTimer();
      this.#cancelHandshakeTimer = this.#context.clock.after(HANDSHAKE_TIMEOUT_MS, () => void this.#handleClose(ABNORMAL, "no answer to the handshake"));
    } catch (error) {
      if (attempt === this.#attempt) void this.#handleClose(ABNORMAL, "", toChatError(error, "token"));
    }
  }

  /** @param {string} token */
  #openSocket(token) {
    const query = new URLSearchParams(this.#owner.query());
    if (this.#cursor) query.set("cursor", this.#cursor);
    const socket = new this.#context.WebSocket(`${this.#context.wsUrl}?${query}`, ["chat.v1", `bearer.${token}`]);
    this.#socket = socket;
    this.#openedAt = this.#context.clock.elapsed();
    socket.onmessage = (event) => { if (socket === this.#socket) this.#receive(event.data); };
    socket.onclose = (event) => { if (socket === this.#socket) void this.#handleClose(event.code, event.reason); };
    // A `close` event follows, except in Node.js 20, which reports a refused handshake by `error` alone.
    socket.onerror = () => { if (socket === this.#socket && !this.#isReady) void this.#handleClose(ABNORMAL, ""); };
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#heartbeat.recordActivity();
    this.#context.network.recordResponse();
    /** @type {any} */
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return; // not of this protocol
    }
    if (typeof frame !== "object" || frame === null) return;
    if (frame.type === "ready") this.#handleReady();
    else this.#socketToken.handleFrame(frame);
    this.#owner.onFrame(frame);
    if (typeof frame.cursor === "string") this.#cursor = frame.cursor; // only after the owner has handled the frame
    if (frame.type === "ready" || frame.type === "recovered") this.#setPhase("live", null);
    if (frame.type === "degraded") this.#setPhase("degraded", new ChatError("the server's live relay is interrupted", { code: "network" }));
  }

  #handleReady() {
    this.#isReady = true;
    this.#readyAt = this.#context.clock.elapsed();
    this.#cancelHandshakeTimer();
    this.#failures.reset();
    this.#heartbeat.start();
    this.#retryList.remove("connection");
    this.#socketToken.onReady();
  }

  /**
   * The connection has ended, or the handshake failed.
   * @param {number} code
   * @param {string} reason
   * @param {ChatError | null} [error]
   */
  async #handleClose(code, reason, error = null) {
    const wasReady = this.#isReady;
    const wasStable = wasReady && this.#context.clock.elapsed() - this.#readyAt > STABLE_AFTER_MS;
    this.#dropSocket();
    const attempt = this.#attempt;
    if (wasStable) this.#retry.reset();
    let cause = code === FORBIDDEN ? new ChatError(reason || "no longer allowed", { status: 403 }) : error;
    this.#setPhase(code === FORBIDDEN ? "refused" : this.#phase === "connecting" ? "connecting" : "reconnecting", cause);
    const isUnexplained = !cause && !wasReady && code !== OVERLOADED && code !== TOO_MANY_SOCKETS;
    if (code === TOKEN_INVALID || isUnexplained) {
      cause = await this.#diagnose(code === TOKEN_INVALID ? codeOfClose(reason) : null);
      if (attempt !== this.#attempt) return;
      if (cause) this.#failures.reset();
      else this.#failures.record();
    }
    cause ??= new ChatError(wasReady ? `the connection was closed (${code})` : "no WebSocket connection, although HTTP works", { code: codeOfClose(reason) });
    await this.#reconnectLater(cause, CLOSE_DELAYS_MS.get(code) ?? 0);
  }

  /**
   * Waits, then connects. After a refusal it asks over HTTP first, which costs less than a handshake and gives the reason.
   * @param {ChatError} cause
   * @param {number} extraMs
   */
  async #reconnectLater(cause, extraMs) {
    const attempt = this.#attempt;
    /** @type {ChatError | null} */
    let problem = cause;
    for (let delayMs = extraMs; problem; delayMs = 0) {
      if (!problem.retryable) this.#setPhase("refused", problem);
      else if (this.#phase !== "refused") this.#setPhase(this.#phase, problem);
      this.#retryList.add("connection", problem);
      const isDue = this.#retry.wait(problem, delayMs);
      this.#report();
      await isDue;
      if (attempt !== this.#attempt) return;
      this.#report();
      if (this.#phase !== "refused") break;
      problem = await this.#diagnose(null);
      if (attempt !== this.#attempt) return;
    }
    if (this.#phase === "refused") this.#setPhase("reconnecting", null);
    void this.#connect();
  }

  /**
   * Why there is no connection, as far as HTTP can tell; null when HTTP works.
   * @param {import("../errors.js").ErrorCode | null} endOfToken Why the token has ended, if it has.
   * @returns {Promise<ChatError | null>}
   */
  async #diagnose(endOfToken) {
    try {
      if (endOfToken !== null) return await this.#replaceToken(endOfToken);
      await this.#owner.probe();
      return null;
    } catch (error) {
      return toChatError(error, "network");
    }
  }

  /** @param {import("../errors.js").ErrorCode} code Why the token has ended. */
  async #replaceToken(code) {
    const { tokenProvider } = this.#context;
    const { token } = this.#socketToken;
    tokenProvider.markRefused(token);
    const fresh = await tokenProvider.renew(token, "refused");
    return fresh ? new ChatError("the token was replaced", { code: "token" }) : new ChatError("the token has ended", { status: 401, code });
  }

  #dropSocket() {
    const socket = this.#socket;
    this.#attempt++;
    this.#cancelHandshakeTimer();
    this.#heartbeat.stop();
    this.#isReady = false;
    this.#socket = null;
    this.#socketToken.reset();
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    try {
      socket.close(1000);
    } catch { /* the socket was not open yet */ }
  }

  /** @param {Phase} phase @param {ChatError | null} reason */
  #setPhase(phase, reason) {
    if (this.#phase === "closed" && phase !== "connecting") return;
    this.#phase = phase;
    this.#reason = reason;
    this.#report();
  }

  #report() {
    const { state, error, retryAt } = this;
    const before = this.#reported;
    if (state === before.state && isSameReason(error, before.error) && retryAt === before.retryAt) return;
    this.#reported = { state, error, retryAt };
    this.#owner.onChange();
  }
}
