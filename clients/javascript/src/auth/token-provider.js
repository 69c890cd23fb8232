// Owns the token in force. Work that finds it refused or expiring asks here for another. Requests at the same time share one call
// of the page's token source. The token stays in memory and goes to the chat server only.
//
// Two loops are impossible. A source whose tokens are all refused is asked less and less often (`RefusalDelay`). A page that answers
// `unauthorized` with refused tokens wakes the waiting work less and less often (`ReleaseLimiter`).

import { ChatError, toChatError } from "../errors.js";
import { RefusalDelay } from "./refusal-delay.js";
import { ReleaseLimiter } from "./release-limiter.js";
import { checkToken, tokenLifetimeMs } from "./token.js";

const CALLBACK_TIMEOUT_MS = 30_000;
const LIFETIME_DIVISOR = 4; // no renewal before a fourth of the lifetime has passed
const MAX_RENEWAL_INTERVAL_MS = 45_000; // the gateway announces the end of a token one minute ahead
const MIN_RENEWAL_INTERVAL_MS = 1_000;
const DEFAULT_RENEWAL_INTERVAL_MS = 10_000; // for a token that does not state its lifetime
const MAX_FOREIGN_REFUSALS = 3; // after so many, a refusal of an intermediary is taken to be about the token

/** @typedef {"first" | "expiring" | "refused"} Reason */
/** @typedef {import("../types.js").Participant} Participant */

/**
 * @typedef {object} Listener
 * @property {(token: string) => void} onChange Another token is in force.
 * @property {() => void} onRelease Work that waits for a token should run.
 */

export class TokenProvider {
  #source;
  #clock;
  /** @type {string | null} */
  #token = null;
  /** @type {Participant | null} */
  #owner = null;
  /** @type {Promise<string | null> | null} */
  #pendingRequest = null;
  /** @type {((token: string) => void) | null} Resolves the pending request with a token from elsewhere. */
  #resolveRequest = null;
  /** @type {Set<Listener>} */
  #listeners = new Set();

  /** @type {string | null} The last token that the server refused. */
  #refusedToken = null;
  #foreignRefusals = 0;
  #refusalDelay;
  /** @type {ChatError | null} How the last request ended. */
  #lastError = null;
  #renewedAt = 0;
  #renewalIntervalMs = 0;
  #releaseLimiter;

  /**
   * @param {string | import("../types.js").TokenSource} source
   * @param {{ clock: import("../time/clock.js").FullClock, random: () => number }} context
   */
  constructor(source, { clock, random }) {
    this.#source = source;
    this.#clock = clock;
    this.#refusalDelay = new RefusalDelay({ clock, random });
    this.#releaseLimiter = new ReleaseLimiter(clock, () => { for (const { onRelease } of this.#listeners) onRelease(); });
  }

  /** The token in force; empty before the first one. */
  get token() {
    return this.#token ?? "";
  }

  /** From now on the provider rejects tokens of other participants. @param {Participant | null} owner */
  setOwner(owner) {
    this.#owner = owner;
  }

  /** @param {Listener} listener */
  addListener(listener) {
    this.#listeners.add(listener);
  }

  /** The token in force, or the first one from the source. @returns {Promise<string>} */
  async getToken() {
    if (this.#token) return this.#token;
    const token = await this.#request("first");
    if (!token) throw new ChatError("there is no token", { code: "token" });
    return token;
  }

  /**
   * Another token than `used`, or null when the source has none now.
   * @param {string} used
   * @param {"expiring" | "refused"} reason
   * @returns {Promise<string | null>}
   */
  async renew(used, reason) {
    if (this.#token && this.#token !== used && this.#token !== this.#refusedToken) return this.#token;
    if (typeof this.#source === "string") return null;
    if (reason === "refused" && !this.#pendingRequest && this.#refusalDelay.isActive) {
      if (this.#lastError) throw this.#lastError;
      return null;
    }
    const token = await this.#request(reason);
    return token === used ? null : token;
  }

  /**
   * Milliseconds until `used` may be renewed although the server has not refused it.
   * @param {string} used
   */
  getRenewalDelay(used) {
    if (this.#token !== used || this.#renewalIntervalMs === 0) return 0;
    const passedMs = this.#clock.elapsed() - this.#renewedAt;
    return passedMs < 0 ? this.#renewalIntervalMs : Math.max(this.#renewalIntervalMs - passedMs, 0);
  }

  /** A token from the page. The same token again means that it is valid, so waiting work runs. @param {string} given */
  setToken(given) {
    const token = this.#check(given);
    if (token !== this.#token) this.#replaceToken(token);
    else this.#resolveRequest?.(token);
    this.#releaseLimiter.release();
  }

  /** The server answered a request with this token. @param {string} token */
  markAccepted(token) {
    if (token !== this.#token) return;
    this.#refusedToken = this.#lastError = null;
    this.#foreignRefusals = 0;
    this.#refusalDelay.reset();
  }

  /** The server refused this token. @param {string} token */
  markRefused(token) {
    if (token !== this.#token) return;
    this.#refusedToken = token;
    this.#releaseLimiter.recordRefusal();
  }

  /**
   * An intermediary refused a request. It may check tokens itself.
   * @returns {boolean} Whether another token is worth an attempt.
   */
  countForeignRefusal() {
    return ++this.#foreignRefusals >= MAX_FOREIGN_REFUSALS;
  }

  close() {
    this.#releaseLimiter.cancel();
    if (this.#token) this.#resolveRequest?.(this.#token);
  }

  /** @param {Reason} reason */
  #request(reason) {
    this.#pendingRequest ??= this.#callSource(reason).finally(() => { this.#pendingRequest = null; });
    return this.#pendingRequest;
  }

  /** @param {Reason} reason @returns {Promise<string | null>} */
  async #callSource(reason) {
    const source = this.#source;
    if (typeof source === "string") {
      if (this.#token === null) this.#replaceToken(this.#check(source));
      return this.#token;
    }
    const tokenBefore = this.#token;
    let isSettled = false;
    const callback = (async () => source(reason))();
    // A late token is still useful, unless another one took its place.
    callback.then((late) => { if (isSettled && this.#token === tokenBefore) this.setToken(late); }).catch(() => {});
    let cancelTimeout = () => {};
    /** @type {Promise<string>} */
    const other = new Promise((resolve, reject) => {
      this.#resolveRequest = resolve;
      cancelTimeout = this.#clock.after(CALLBACK_TIMEOUT_MS, () => reject(new ChatError("the token callback did not answer in time", { code: "token" })));
    });
    try {
      const token = this.#check(await Promise.race([callback, other]));
      this.#lastError = null;
      this.#recordRenewal(reason, token);
      if (token !== this.#token) this.#replaceToken(token);
      return token;
    } catch (thrown) {
      this.#lastError = toTokenError(thrown);
      throw this.#lastError;
    } finally {
      isSettled = true;
      cancelTimeout();
      this.#resolveRequest = null;
      if (reason === "refused" || this.#lastError) this.#refusalDelay.start();
    }
  }

  /** @param {Reason} reason @param {string} token */
  #recordRenewal(reason, token) {
    if (reason === "first") return;
    const lifetimeMs = tokenLifetimeMs(token);
    this.#renewedAt = this.#clock.elapsed();
    this.#renewalIntervalMs = lifetimeMs === null
      ? DEFAULT_RENEWAL_INTERVAL_MS
      : Math.min(Math.max(lifetimeMs / LIFETIME_DIVISOR, MIN_RENEWAL_INTERVAL_MS), MAX_RENEWAL_INTERVAL_MS);
  }

  /** @param {string} token */
  #replaceToken(token) {
    const isReplacement = this.#token !== null;
    this.#token = token;
    this.#foreignRefusals = 0;
    this.#resolveRequest?.(token);
    if (isReplacement) for (const { onChange } of this.#listeners) onChange(token);
  }

  /** @param {unknown} given @returns {string} */
  #check(given) {
    return checkToken(given, this.#owner);
  }
}

/** @param {unknown} thrown By the page's callback, or by a check of what it returned. */
function toTokenError(thrown) {
  const { code, message } = toChatError(thrown, "token");
  return code === "token" && thrown instanceof ChatError ? thrown : new ChatError(message, { code: "token", cause: thrown });
}
