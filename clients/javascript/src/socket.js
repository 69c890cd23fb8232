// One WebSocket that comes back: with the cursor of what was seen last, after a wait that suits what happened, and with
// a token that is good. It knows nothing of messages; frames and states go to whoever owns it.
//
// What the server refuses is asked for again as well, ever more rarely: what it refused may have been a passing mistake.

import { Backoff } from "./backoff.js";
import { asChatError, ChatError, isSameReason } from "./errors.js";
import { Retry } from "./retry.js";

const READY_MS = 15_000; // from opening to the first frame
const QUIET_MS = 25_000; // then it is asked whether it is still there
const ANSWER_MS = 10_000; // and this long it may take to say so
const LATE_MS = 5_000; // a timer that is so late was held up together with the answer: the machine or the page slept
const STABLE_MS = 10_000; // what lived that long was a success
const BUSY_MS = 5_000; // 1013: the server has too much to do
const CROWDED_MS = 30_000; // 4429: this participant has too many sockets
const EXPELLED_MS = 900_000; // 4403: no longer allowed
const UNHEARD_MS = 1_000; // `rate_limited`: at least so long until a token is offered again
const OPEN = 1; // WebSocket.OPEN, which an injected class need not have

/**
 * @typedef {object} Owner
 * @property {() => Record<string, string>} query What the socket is for.
 * @property {() => Promise<unknown>} probe The same question over HTTP: tells why a handshake was refused, which browsers do not.
 * @property {(frame: any) => void} frame
 * @property {() => void} changed State or error has.
 * @property {(work: import("./types.js").Work, error: ChatError) => void} failed It is tried again.
 * @property {(work: import("./types.js").Work) => void} over It is not tried again any more.
 */

export class LiveSocket {
  /** @type {ChatError | null} Why there is no connection, as far as that is known. */
  error = null;
  #context;
  #owner;
  #retry;
  #renewal;
  /** @type {import("./types.js").WebSocketLike | null} */
  #socket = null;
  /** @type {import("./types.js").SocketState} */
  #state = "closed";
  /** @type {string | null} */
  #cursor = null;
  #token = "";
  /** @type {string | null} A token that the server has not answered to yet. */
  #offered = null;
  #offers;
  #ready = false;
  #readyAt = 0;
  #heard = false; // since somebody looked
  #heardAt = 0;
  #asking = false;
  #renewing = 0; // the attempt whose token is being renewed
  #attempts = 0; // names the attempt that is under way; what belongs to an earlier one is ignored
  #cancelTimer = () => {};
  #cancelRenewal = () => {};
  /** @type {(() => void) | null} While a token waits to be offered again. */
  #cancelOffer = null;

  /**
   * @param {import("./client.js").Context} context
   * @param {Owner} owner
   */
  constructor(context, owner) {
    this.#context = context;
    this.#owner = owner;
    this.#retry = new Retry(context);
    this.#renewal = new Retry(context, { base: 1_000, cap: 30_000 });
    this.#offers = new Backoff(context.random, { base: 1_000, cap: 30_000 });
  }

  get state() {
    return this.#state;
  }

  /** Whether nobody tells at the moment what happens. */
  get isCut() {
    return this.#state !== "live" && this.#state !== "closed";
  }

  open() {
    if (this.#state !== "closed") return;
    this.#become("connecting", null);
    void this.#attempt();
  }

  close() {
    this.#drop();
    this.#retry.end();
    this.#retry.succeeded();
    this.#cursor = null;
    this.#owner.over("connection");
    this.#become("closed", null);
  }

  /** Something has changed for the better (network, token): no reason to wait any longer. */
  hurry() {
    if (this.#ready) this.#askAlive(false);
    else this.#retry.hurry();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  nudge(hadFailed) {
    this.#retry.nudge(hadFailed);
  }

  /**
   * @param {object} frame
   * @returns {boolean} Whether it was handed to the network.
   */
  send(frame) {
    if (!this.#ready || this.#socket?.readyState !== OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** A fresh token, for the socket that is open. @param {string} token */
  offer(token) {
    if (token === this.#token || token === this.#offered) return;
    const before = this.#offered;
    this.#offered = token; // before the answer can come
    this.#stopOffer(); // of the one before
    if (!this.send({ type: "auth", token })) this.#offered = before;
  }

  /**
   * The server did not hear some frame; perhaps the one with the token. It is offered again, unless an answer to it comes first.
   * @param {string} detail
   */
  #offerLater(detail) {
    const token = this.#offered;
    if (token === null || this.#cancelOffer) return;
    this.#cancelOffer = this.#context.clock.after(this.#offers.next(UNHEARD_MS), () => {
      this.#cancelOffer = this.#offered = null;
      this.offer(token);
    });
    this.#owner.failed("token", new ChatError(detail, { code: "token" }));
  }

  #stopOffer() {
    this.#cancelOffer?.();
    this.#cancelOffer = null;
  }

  /** The server has answered to the token that was offered, or the socket has ended. */
  #endOffer() {
    this.#stopOffer();
    this.#offers.reset();
    this.#offered = null;
  }

  async #attempt() {
    const attempt = ++this.#attempts;
    try {
      this.#token = await this.#context.credentials.current();
      if (attempt !== this.#attempts) return;
      const query = new URLSearchParams(this.#owner.query());
      if (this.#cursor) query.set("cursor", this.#cursor);
      const socket = new this.#context.WebSocket(`${this.#context.wsUrl}?${query}`, ["chat.v1", `bearer.${this.#token}`]);
      this.#socket = socket;
      socket.onmessage = (event) => { if (socket === this.#socket) this.#receive(event.data); };
      socket.onclose = (event) => { if (socket === this.#socket) void this.#lost(event.code, event.reason); };
      // `close` follows, except where it does not: Node.js 20 tells of a refused handshake by `error` alone.
      socket.onerror = () => { if (socket === this.#socket && !this.#ready) void this.#lost(1006, ""); };
      this.#arm(READY_MS, () => void this.#lost(1006, "no answer to the handshake"));
    } catch (error) {
      if (attempt === this.#attempts) void this.#lost(1006, "", asChatError(error, "token"));
    }
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#heard = true;
    this.#heardAt = this.#context.clock.elapsed();
    /** @type {any} */
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return; // not of this protocol
    }
    if (typeof frame !== "object" || frame === null) return;
    switch (frame.type) {
      case "ready": this.#begin(); break;
      case "expiring": this.#renewSoon(frame.expires_at); break;
      case "authenticated":
        if (this.#offered) this.#token = this.#offered;
        this.#endOffer();
        this.#endRenewal();
        break;
      case "error":
        if (frame.code === "rate_limited") this.#offerLater(frame.detail);
        if (["unauthorized", "forbidden"].includes(frame.code) && this.#offered) {
          this.#context.credentials.refused(this.#offered);
          this.#endOffer();
          this.#owner.failed("token", new ChatError(frame.detail, { code: "token" }));
        }
        break;
    }
    this.#owner.frame(frame);
    if (typeof frame.cursor === "string") this.#cursor = frame.cursor; // only once it has been dealt with
    if (frame.type === "ready" || frame.type === "recovered") this.#become("live", null);
    if (frame.type === "degraded") this.#become("degraded", new ChatError("the server's live relay is interrupted", { code: "network" }));
  }

  #begin() {
    const { credentials, clock } = this.#context;
    this.#ready = true;
    this.#readyAt = clock.elapsed();
    this.#watch();
    this.#owner.over("connection");
    if (credentials.token !== this.#token) this.offer(credentials.token); // it came during the handshake
  }

  /**
   * The connection is gone, or never was.
   * @param {number} code
   * @param {string} reason
   * @param {ChatError} [error]
   */
  async #lost(code, reason, error) {
    const wasReady = this.#ready;
    const wasStable = wasReady && this.#context.clock.elapsed() - this.#readyAt > STABLE_MS;
    this.#drop();
    const attempt = this.#attempts;
    if (wasStable) this.#retry.succeeded();
    let why = code === 4403 ? new ChatError(reason || "no longer allowed", { status: 403 }) : error ?? null;
    this.#become(code === 4403 ? "refused" : this.#state === "connecting" ? "connecting" : "reconnecting", why);
    if (code === 4401 || (!why && !wasReady && code !== 1013 && code !== 4429)) {
      why = await this.#ask(code === 4401);
      if (attempt !== this.#attempts) return;
    }
    why ??= new ChatError(wasReady ? `the connection was closed (${code})` : "no WebSocket connection, though HTTP works", { code: "network" });
    await this.#again(why, { 1013: BUSY_MS, 4429: CROWDED_MS, 4403: EXPELLED_MS }[code] ?? 0);
  }

  /**
   * Waits, and tries again. What was refused is asked for over HTTP first, which costs less than a handshake and tells why.
   * @param {ChatError} why
   * @param {number} more
   */
  async #again(why, more) {
    const attempt = this.#attempts;
    /** @type {ChatError | null} */
    let problem = why;
    for (let wait = more; problem; wait = 0) {
      if (!problem.retryable) this.#become("refused", problem);
      else if (this.#state !== "refused") this.#become(this.#state, problem);
      this.#owner.failed("connection", problem);
      await this.#retry.wait(problem, wait);
      if (attempt !== this.#attempts) return;
      if (this.#state !== "refused") break;
      problem = await this.#ask(false);
      if (attempt !== this.#attempts) return;
    }
    if (this.#state === "refused") this.#become("reconnecting", null);
    void this.#attempt();
  }

  /**
   * Why there is no connection, as far as HTTP knows; null when HTTP works.
   * @param {boolean} tokenEnded
   * @returns {Promise<ChatError | null>}
   */
  async #ask(tokenEnded) {
    const { credentials } = this.#context;
    try {
      if (tokenEnded) {
        credentials.refused(this.#token);
        const fresh = await credentials.renew(this.#token, "refused");
        return fresh ? new ChatError("the token was replaced", { code: "token" }) : new ChatError("the token has ended", { status: 401 });
      }
      await this.#owner.probe();
      return null;
    } catch (error) {
      return asChatError(error, "network");
    }
  }

  /** The server says that the token ends. It may say so at once, of a token that was just issued. @param {string} expires_at */
  #renewSoon(expires_at) {
    const wait = this.#context.credentials.renewalDelay(this.#token);
    this.#cancelRenewal();
    if (wait > 0) this.#cancelRenewal = this.#context.clock.after(wait, () => void this.#renew(expires_at));
    else void this.#renew(expires_at);
  }

  /** @param {string} expires_at */
  async #renew(expires_at) {
    const attempt = this.#attempts;
    if (this.#renewing === attempt) return;
    this.#renewing = attempt;
    const { credentials } = this.#context;
    const { token } = credentials;
    for (;;) {
      try {
        const fresh = await credentials.renew(this.#token, "expiring");
        if (attempt !== this.#attempts) return;
        this.#renewing = 0; // before `expiring` can come again
        if (fresh) this.offer(fresh);
        else this.#context.expiring(expires_at);
        return;
      } catch (thrown) {
        if (attempt !== this.#attempts) return;
        const error = asChatError(thrown, "token");
        this.#owner.failed("token", error);
        await this.#renewal.wait(error); // when the token ends meanwhile, 4401 asks again
        if (attempt !== this.#attempts) return;
        if (credentials.token !== token) break;
      }
    }
    this.#renewing = 0;
  }

  #endRenewal() {
    this.#cancelRenewal();
    this.#renewal.end();
    this.#renewal.succeeded();
    this.#owner.over("token");
  }

  /** A browser does not notice a line that went dead: ask, when nothing has come for a while. */
  #watch() {
    this.#heard = false;
    this.#asking = false;
    this.#heardAt = this.#context.clock.elapsed();
    this.#watchFor(QUIET_MS);
  }

  /** @param {number} ms */
  #watchFor(ms) {
    this.#arm(ms, () => {
      const left = QUIET_MS - (this.#context.clock.elapsed() - this.#heardAt);
      if (!this.#heard || left <= 0) return this.#askAlive(false);
      this.#heard = false;
      this.#watchFor(Math.min(left, QUIET_MS));
    });
  }

  /** @param {boolean} isAgain */
  #askAlive(isAgain) {
    const { clock } = this.#context;
    const asked = clock.elapsed();
    const wasAsking = this.#asking;
    if (!wasAsking || isAgain) this.#heard = false;
    this.#asking = true;
    this.send({ type: "ping" });
    if (wasAsking && !isAgain) return; // whoever asks often must not wait for ever
    this.#arm(ANSWER_MS, () => {
      if (this.#heard) this.#watch();
      else if (!isAgain && clock.elapsed() - asked > ANSWER_MS + LATE_MS) this.#askAlive(true);
      else void this.#lost(1006, "silent");
    });
  }

  /** @param {number} ms @param {() => void} run */
  #arm(ms, run) {
    this.#cancelTimer();
    this.#cancelTimer = this.#context.clock.after(ms, run);
  }

  #drop() {
    const socket = this.#socket;
    this.#attempts++;
    this.#cancelTimer();
    this.#endRenewal();
    this.#socket = null;
    this.#ready = this.#asking = false;
    this.#endOffer();
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    try {
      socket.close(1000);
    } catch { /* it was not open yet */ }
  }

  /** @param {import("./types.js").SocketState} state @param {ChatError | null} error */
  #become(state, error) {
    if (this.#state === "closed" && state !== "connecting") return;
    const changed = state !== this.#state || !isSameReason(error, this.error);
    this.#state = state;
    this.error = error;
    if (changed) this.#owner.changed();
  }
}
