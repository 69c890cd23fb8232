// The token in force. Whoever finds it refused or ending asks for another; those who ask at once share one answer.
// It is kept in memory only, and goes nowhere but to the server.
//
// Two loops must not exist. A source whose tokens are all refused is asked ever more rarely, until one is accepted. A page
// that answers `unauthorized` with another refused token wakes the waiting work ever more rarely.

import { toChatError, ChatError } from "./errors.js";
import { checkToken, tokenLifetimeMs } from "./participant.js";

const CALLBACK_TIMEOUT_MS = 30_000; // of the token callback
const BASE_REFUSED_DELAY_MS = 1_000;
const MAX_REFUSED_DELAY_MS = 60_000;
const MAX_RELEASE_INTERVAL_MS = 60_000;
const LIFETIME_DIVISOR = 4; // a token is not renewed before a fourth of its life is over
const MAX_RENEWAL_INTERVAL_MS = 45_000; // unless that is longer than this: a server tells of the end a minute before
const MIN_RENEWAL_INTERVAL_MS = 1_000;
const DEFAULT_RENEWAL_INTERVAL_MS = 10_000;
const MAX_FOREIGN_REFUSALS = 3; // of something in between, until it is believed that it is about the token

/** @typedef {"first" | "expiring" | "refused"} Reason */

export class TokenProvider {
  #source;
  #clock;
  #random;
  /** @type {string | null} */
  #token = null;
  /** @type {import("./types.js").Participant | null} */
  #owner = null;
  /** @type {Promise<string | null> | null} */
  #pendingRequest = null;
  /** @type {((token: string) => void) | null} Answers those who ask with a token that came another way. */
  #resolveRequest = null;
  /** @type {Set<{ onChange: (token: string) => void, onRelease: () => void }>} */
  #listeners = new Set();

  /** @type {string | null} The last one that the server refused. */
  #refusedToken = null;
  #foreignRefusals = 0;
  #refusedRequests = 0; // because of a refusal, since a token was accepted
  #delayFrom = 0;
  #delayMs = 0;
  /** @type {ChatError | null} How the last question ended. */
  #lastError = null;

  #renewedAt = 0;
  #renewalIntervalMs = 0;

  #refusedSinceRelease = false;
  #releasedAt = -Infinity;
  #releaseIntervalMs = 0;
  #cancelRelease = () => {};

  /**
   * @param {string | import("./types.js").TokenSource} source
   * @param {{ clock: import("./clock.js").FullClock, random: () => number }} context
   */
  constructor(source, { clock, random }) {
    this.#source = source;
    this.#clock = clock;
    this.#random = random;
  }

  /** The token in force; empty when there is none yet. */
  get token() {
    return this.#token ?? "";
  }

  /** From now on, tokens of others are not taken. @param {import("./types.js").Participant | null} owner */
  setOwner(owner) {
    this.#owner = owner;
  }

  /**
   * `onChange`: a token took the place of another. `onRelease`: work that waits for a token should be tried.
   * @param {{ onChange: (token: string) => void, onRelease: () => void }} listener
   */
  addListener(listener) {
    this.#listeners.add(listener);
  }

  /** @returns {Promise<string>} */
  async getToken() {
    if (this.#token) return this.#token;
    const token = await this.#request("first");
    if (!token) throw new ChatError("there is no token", { code: "token" });
    return token;
  }

  /**
   * Another token than `used`, or null when there is none to be had now.
   * @param {string} used
   * @param {"expiring" | "refused"} reason
   * @returns {Promise<string | null>}
   */
  async renew(used, reason) {
    if (this.#token && this.#token !== used && this.#token !== this.#refusedToken) return this.#token;
    if (typeof this.#source === "string") return null;
    if (reason === "refused" && !this.#pendingRequest && this.#isDelayed()) {
      if (this.#lastError) throw this.#lastError;
      return null;
    }
    const token = await this.#request(reason);
    return token === used ? null : token;
  }

  /**
   * Milliseconds until `used` may be renewed though it has not been refused.
   * @param {string} used
   */
  getRenewalDelay(used) {
    if (this.#token !== used || this.#renewalIntervalMs === 0) return 0;
    const since = this.#clock.elapsed() - this.#renewedAt;
    return since < 0 ? this.#renewalIntervalMs : Math.max(this.#renewalIntervalMs - since, 0);
  }

  /** A token that came on its own. The same one again says that it is good: what waits is tried. @param {string} given */
  setToken(given) {
    const token = this.#check(given);
    if (token !== this.#token) this.#replaceToken(token);
    else this.#resolveRequest?.(token);
    this.#release();
  }

  /** The server has answered to it. @param {string} token */
  markAccepted(token) {
    if (token !== this.#token) return;
    this.#refusedToken = this.#lastError = null;
    this.#foreignRefusals = this.#refusedRequests = this.#delayMs = 0;
  }

  /** The server has refused it. @param {string} token */
  markRefused(token) {
    if (token !== this.#token) return;
    this.#refusedToken = token;
    this.#refusedSinceRelease = true;
  }

  /**
   * Something in between has refused a request. It may check tokens itself.
   * @returns {boolean} Whether another token is worth a try.
   */
  countForeignRefusal() {
    return ++this.#foreignRefusals >= MAX_FOREIGN_REFUSALS;
  }

  close() {
    this.#cancelRelease();
    if (this.#token) this.#resolveRequest?.(this.#token);
  }

  /** @param {Reason} reason */
  #request(reason) {
    this.#pendingRequest ??= this.#fetch(reason).finally(() => { this.#pendingRequest = null; });
    return this.#pendingRequest;
  }

  /** @param {Reason} reason @returns {Promise<string | null>} */
  async #fetch(reason) {
    const source = this.#source;
    if (typeof source === "string") {
      if (this.#token === null) this.#replaceToken(this.#check(source));
      return this.#token;
    }
    const before = this.#token;
    let isSettled = false;
    const callback = (async () => source(reason))();
    callback.then((late) => { if (isSettled && this.#token === before) this.setToken(late); }).catch(() => {}); // better late than never
    let cancel = () => {};
    /** @type {Promise<string>} */
    const other = new Promise((resolve, reject) => {
      this.#resolveRequest = resolve;
      cancel = this.#clock.after(CALLBACK_TIMEOUT_MS, () => reject(new ChatError("the token callback did not answer in time", { code: "token" })));
    });
    try {
      const token = this.#check(await Promise.race([callback, other]));
      this.#lastError = null;
      this.#recordRenewal(reason, token);
      if (token !== this.#token) this.#replaceToken(token);
      return token;
    } catch (thrown) {
      const { code, message } = toChatError(thrown, "token");
      this.#lastError = code === "token" && thrown instanceof ChatError ? thrown : new ChatError(message, { code: "token", cause: thrown });
      throw this.#lastError;
    } finally {
      isSettled = true;
      cancel();
      this.#resolveRequest = null;
      if (reason === "refused" || this.#lastError) this.#startDelay();
    }
  }

  /** @param {Reason} reason @param {string} token */
  #recordRenewal(reason, token) {
    if (reason === "first") return;
    const life = tokenLifetimeMs(token);
    this.#renewedAt = this.#clock.elapsed();
    this.#renewalIntervalMs = life === null ? DEFAULT_RENEWAL_INTERVAL_MS : Math.min(Math.max(life / LIFETIME_DIVISOR, MIN_RENEWAL_INTERVAL_MS), MAX_RENEWAL_INTERVAL_MS);
  }

  #startDelay() {
    const ceiling = Math.min(MAX_REFUSED_DELAY_MS, BASE_REFUSED_DELAY_MS * 2 ** this.#refusedRequests);
    this.#refusedRequests = Math.min(this.#refusedRequests + 1, 30);
    this.#delayFrom = this.#clock.elapsed();
    this.#delayMs = ceiling / 2 + (this.#random() * ceiling) / 2;
  }

  #isDelayed() {
    const since = this.#clock.elapsed() - this.#delayFrom;
    return since >= 0 && since < this.#delayMs;
  }

  /** @param {string} token */
  #replaceToken(token) {
    const replaces = this.#token !== null;
    this.#token = token;
    this.#foreignRefusals = 0;
    this.#resolveRequest?.(token);
    if (replaces) for (const { onChange } of this.#listeners) onChange(token);
  }

  /** Work that waits is tried now, unless this is one of a row of tokens that were all refused. */
  #release() {
    const since = this.#clock.elapsed() - this.#releasedAt;
    this.#releaseIntervalMs = this.#refusedSinceRelease ? Math.min(Math.max(this.#releaseIntervalMs * 2, 1_000), MAX_RELEASE_INTERVAL_MS) : 0;
    this.#cancelRelease();
    const release = () => {
      this.#releasedAt = this.#clock.elapsed();
      this.#refusedSinceRelease = false;
      for (const { onRelease } of this.#listeners) onRelease();
    };
    if (since < 0 || since >= this.#releaseIntervalMs) release();
    else this.#cancelRelease = this.#clock.after(this.#releaseIntervalMs - since, release);
  }

  /** @param {unknown} given @returns {string} */
  #check(given) {
    return checkToken(given, this.#owner);
  }
}
