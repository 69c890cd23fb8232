// One WebSocket that comes back: with the cursor of what was seen last, after a wait that suits what happened, and with
// a token that is good. It knows nothing of messages; frames and states go to whoever owns it.

import { Backoff } from "./backoff.js";
import { Pause } from "./clock.js";
import { asChatError, ChatError } from "./errors.js";

const READY_MS = 15_000; // from opening to the first frame
const QUIET_MS = 25_000; // then it is asked whether it is still there
const ANSWER_MS = 10_000; // and this long it may take to say so
const STABLE_MS = 10_000; // what lived that long was a success
const BUSY_MS = 5_000; // 1013: the server has too much to do
const CROWDED_MS = 30_000; // 4429: this participant has too many sockets
const OPEN = 1; // WebSocket.OPEN, which an injected class need not have
/** What trying again does not change. */
const FINAL = [400, 403, 404, 422];

/**
 * @typedef {object} Owner
 * @property {() => Record<string, string>} query What the socket is for.
 * @property {() => Promise<unknown>} probe The same question over HTTP: tells why a handshake was refused, which browsers do not.
 * @property {(frame: any) => void} frame
 * @property {(state: import("./types.js").State, error: ChatError | null) => void} state
 */

export class LiveSocket {
  #context;
  #owner;
  #backoff;
  #pause;
  /** @type {import("./types.js").WebSocketLike | null} */
  #socket = null;
  /** @type {import("./types.js").State} */
  #state = "closed";
  /** @type {string | null} */
  #cursor = null;
  #token = "";
  /** @type {string | null} A token that the server has not answered to yet. */
  #offered = null;
  #ready = false;
  #readyAt = 0;
  #heardAt = 0;
  #attempts = 0; // names the attempt that is under way; what belongs to an earlier one is ignored
  /** @type {() => void} */
  #cancelTimer = () => {};

  /**
   * @param {import("./client.js").Context} context
   * @param {Owner} owner
   */
  constructor(context, owner) {
    this.#context = context;
    this.#owner = owner;
    this.#backoff = new Backoff(context.random);
    this.#pause = new Pause(context.clock);
  }

  get state() {
    return this.#state;
  }

  open() {
    if (this.#state !== "closed") return;
    this.#become("connecting", null);
    void this.#attempt();
  }

  close() {
    this.#drop();
    this.#pause.end();
    this.#cursor = null;
    this.#become("closed", null);
  }

  /** Something has changed for the better (network, token): no reason to wait any longer. */
  hurry() {
    if (this.#state === "refused") {
      this.#become("reconnecting", null);
      void this.#attempt();
    } else if (this.#ready) {
      this.#askAlive();
    } else {
      this.#pause.end();
    }
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
    if (token !== this.#token && token !== this.#offered && this.send({ type: "auth", token })) this.#offered = token;
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
      this.#cancelTimer = this.#context.clock.after(READY_MS, () => void this.#lost(1006, "no answer to the handshake"));
    } catch (error) {
      if (attempt === this.#attempts) void this.#lost(1006, "", asChatError(error, "token"));
    }
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#heardAt = this.#context.clock.now();
    /** @type {any} */
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return; // not of this protocol
    }
    switch (frame.type) {
      case "ready":
        this.#ready = true;
        this.#readyAt = this.#heardAt;
        this.#watch();
        break;
      case "expiring": void this.#renew(frame.expires_at); break;
      case "authenticated":
        if (this.#offered) this.#token = this.#offered;
        this.#offered = null;
        break;
      case "error":
        if (["unauthorized", "forbidden"].includes(frame.code) && this.#offered) {
          this.#offered = null;
          this.#context.trouble(new ChatError(frame.detail, { code: "token" }));
        }
        break;
    }
    this.#owner.frame(frame);
    if (typeof frame.cursor === "string") this.#cursor = frame.cursor; // only once it has been dealt with
    if (frame.type === "ready" || frame.type === "recovered") this.#become("live", null);
    if (frame.type === "degraded") this.#become("degraded", null);
  }

  /**
   * The connection is gone, or never was.
   * @param {number} code
   * @param {string} reason
   * @param {ChatError} [error]
   */
  async #lost(code, reason, error) {
    const wasReady = this.#ready;
    const lived = wasReady ? this.#context.clock.now() - this.#readyAt : 0;
    this.#drop();
    const attempt = this.#attempts;
    if (lived > STABLE_MS) this.#backoff.reset();
    this.#become(this.#state === "connecting" ? "connecting" : "reconnecting", error ?? null);

    let wait = this.#backoff.next();
    if (code === 4403) return this.#become("refused", new ChatError(reason || "no longer allowed", { status: 403 }));
    if (code === 1001 && wasReady) wait = this.#context.random() * 500; // the others are there: only not all at once
    if (code === 4401) wait = 0;
    if (code === 1013) wait += BUSY_MS;
    if (code === 4429) wait += CROWDED_MS;
    if (code === 4401 || (!wasReady && code !== 1013 && code !== 4429)) {
      const why = await this.#ask(code === 4401);
      if (attempt !== this.#attempts) return;
      if (why && (why.status === 401 || FINAL.includes(why.status))) return this.#become("refused", why);
      if (why) this.#become(this.#state, why);
      wait += why?.retryAfter ?? 0;
    }
    await this.#pause.wait(wait);
    if (attempt === this.#attempts) void this.#attempt();
  }

  /**
   * Why there is no connection, as far as HTTP knows; null when HTTP works.
   * @param {boolean} tokenEnded
   * @returns {Promise<ChatError | null>}
   */
  async #ask(tokenEnded) {
    try {
      if (tokenEnded) {
        const fresh = await this.#context.credentials.renew(this.#token, "refused");
        return fresh ? null : new ChatError("the token has ended", { status: 401 });
      }
      await this.#owner.probe();
      return null;
    } catch (error) {
      return asChatError(error, "network");
    }
  }

  /** @param {string} expires_at */
  async #renew(expires_at) {
    try {
      const fresh = await this.#context.credentials.renew(this.#token, "expiring");
      if (fresh) this.offer(fresh);
      else this.#context.expiring(expires_at);
    } catch (error) {
      this.#context.trouble(asChatError(error, "token")); // when the token ends, 4401 asks again
    }
  }

  /** A browser does not notice a line that went dead: ask, when nothing has come for a while. */
  #watch() {
    this.#cancelTimer();
    this.#cancelTimer = this.#context.clock.after(QUIET_MS, () => {
      if (this.#context.clock.now() - this.#heardAt < QUIET_MS) this.#watch();
      else this.#askAlive();
    });
  }

  #askAlive() {
    const asked = this.#context.clock.now();
    this.send({ type: "ping" });
    this.#cancelTimer();
    this.#cancelTimer = this.#context.clock.after(ANSWER_MS, () => {
      if (this.#heardAt >= asked) this.#watch();
      else void this.#lost(1006, "silent");
    });
  }

  #drop() {
    const socket = this.#socket;
    this.#attempts++;
    this.#cancelTimer();
    this.#socket = null;
    this.#ready = false;
    this.#offered = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    try {
      socket.close(1000);
    } catch { /* it was not open yet */ }
  }

  /** @param {import("./types.js").State} state @param {ChatError | null} error */
  #become(state, error) {
    if (this.#state === "closed" && state !== "connecting") return;
    const changed = state !== this.#state || error !== null;
    this.#state = state;
    if (changed) this.#owner.state(state, error);
  }
}
