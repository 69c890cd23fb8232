// The token in force. Whoever finds it refused or ending asks for another; those who ask at once share one answer.
// It is kept in memory only, and goes nowhere but to the server.
//
// Two loops must not exist. A source whose tokens are all refused is asked ever more rarely, until one is accepted. A page
// that answers `unauthorized` with another refused token wakes the waiting work ever more rarely.

import { asChatError, ChatError } from "./errors.js";
import { checkToken, lifeOf } from "./participant.js";

const ANSWER_MS = 30_000; // of the token callback
const ASK_BASE_MS = 1_000;
const ASK_CAP_MS = 60_000;
const RELEASE_CAP_MS = 60_000;
const LIFE_SHARE = 4; // a token is not renewed before a fourth of its life is over
const MOST_BETWEEN_MS = 45_000; // unless that is longer than this: a server tells of the end a minute before
const LEAST_BETWEEN_MS = 1_000;
const UNKNOWN_BETWEEN_MS = 10_000;
const FOREIGN_REFUSALS = 3; // of something in between, until it is believed that it is about the token

/** @typedef {"first" | "expiring" | "refused"} Reason */

export class Credentials {
  #source;
  #clock;
  #random;
  /** @type {string | null} */
  #token = null;
  /** @type {import("./types.js").Participant | null} */
  #owner = null;
  /** @type {Promise<string | null> | null} */
  #asking = null;
  /** @type {((token: string) => void) | null} Answers those who ask with a token that came another way. */
  #arrived = null;
  /** @type {Set<{ changed: (token: string) => void, released: () => void }>} */
  #listeners = new Set();

  /** @type {string | null} The last one that the server refused. */
  #refused = null;
  #foreignRefusals = 0;
  #asks = 0; // because of a refusal, since a token was accepted
  #gateFrom = 0;
  #gateMs = 0;
  /** @type {ChatError | null} How the last question ended. */
  #failure = null;

  #renewedAt = 0;
  #betweenMs = 0;

  #refusedSinceRelease = false;
  #releasedAt = -Infinity;
  #releaseGapMs = 0;
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
  belongTo(owner) {
    this.#owner = owner;
  }

  /**
   * `changed`: a token took the place of another. `released`: work that waits for a token should be tried.
   * @param {{ changed: (token: string) => void, released: () => void }} listener
   */
  listen(listener) {
    this.#listeners.add(listener);
  }

  /** @returns {Promise<string>} */
  async current() {
    if (this.#token) return this.#token;
    const token = await this.#ask("first");
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
    if (this.#token && this.#token !== used && this.#token !== this.#refused) return this.#token;
    if (typeof this.#source === "string") return null;
    if (reason === "refused" && !this.#asking && this.#isGated()) {
      if (this.#failure) throw this.#failure;
      return null;
    }
    const token = await this.#ask(reason);
    return token === used ? null : token;
  }

  /**
   * Milliseconds until `used` may be renewed though it has not been refused.
   * @param {string} used
   */
  renewalDelay(used) {
    if (this.#token !== used || this.#betweenMs === 0) return 0;
    const since = this.#clock.elapsed() - this.#renewedAt;
    return since < 0 ? this.#betweenMs : Math.max(this.#betweenMs - since, 0);
  }

  /** A token that came on its own. The same one again says that it is good: what waits is tried. @param {string} given */
  set(given) {
    const token = this.#checked(given);
    if (token !== this.#token) this.#take(token);
    else this.#arrived?.(token);
    this.#release();
  }

  /** The server has answered to it. @param {string} token */
  accepted(token) {
    if (token !== this.#token) return;
    this.#refused = this.#failure = null;
    this.#foreignRefusals = this.#asks = this.#gateMs = 0;
  }

  /** The server has refused it. @param {string} token */
  refused(token) {
    if (token !== this.#token) return;
    this.#refused = token;
    this.#refusedSinceRelease = true;
  }

  /**
   * Something in between has refused a request. It may check tokens itself.
   * @returns {boolean} Whether another token is worth a try.
   */
  refusedInBetween() {
    return ++this.#foreignRefusals >= FOREIGN_REFUSALS;
  }

  close() {
    this.#cancelRelease();
    if (this.#token) this.#arrived?.(this.#token);
  }

  /** @param {Reason} reason */
  #ask(reason) {
    this.#asking ??= this.#fetch(reason).finally(() => { this.#asking = null; });
    return this.#asking;
  }

  /** @param {Reason} reason @returns {Promise<string | null>} */
  async #fetch(reason) {
    const source = this.#source;
    if (typeof source === "string") {
      if (this.#token === null) this.#take(this.#checked(source));
      return this.#token;
    }
    const before = this.#token;
    let isOver = false;
    const answer = (async () => source(reason))();
    answer.then((late) => { if (isOver && this.#token === before) this.set(late); }).catch(() => {}); // better late than never
    let cancel = () => {};
    /** @type {Promise<string>} */
    const other = new Promise((resolve, reject) => {
      this.#arrived = resolve;
      cancel = this.#clock.after(ANSWER_MS, () => reject(new ChatError("the token callback did not answer in time", { code: "token" })));
    });
    try {
      const token = this.#checked(await Promise.race([answer, other]));
      this.#failure = null;
      this.#renewed(reason, token);
      if (token !== this.#token) this.#take(token);
      return token;
    } catch (thrown) {
      const { code, message } = asChatError(thrown, "token");
      this.#failure = code === "token" && thrown instanceof ChatError ? thrown : new ChatError(message, { code: "token", cause: thrown });
      throw this.#failure;
    } finally {
      isOver = true;
      cancel();
      this.#arrived = null;
      if (reason === "refused" || this.#failure) this.#closeGate();
    }
  }

  /** @param {Reason} reason @param {string} token */
  #renewed(reason, token) {
    if (reason === "first") return;
    const life = lifeOf(token);
    this.#renewedAt = this.#clock.elapsed();
    this.#betweenMs = life === null ? UNKNOWN_BETWEEN_MS : Math.min(Math.max(life / LIFE_SHARE, LEAST_BETWEEN_MS), MOST_BETWEEN_MS);
  }

  #closeGate() {
    const ceiling = Math.min(ASK_CAP_MS, ASK_BASE_MS * 2 ** this.#asks);
    this.#asks = Math.min(this.#asks + 1, 30);
    this.#gateFrom = this.#clock.elapsed();
    this.#gateMs = ceiling / 2 + (this.#random() * ceiling) / 2;
  }

  #isGated() {
    const since = this.#clock.elapsed() - this.#gateFrom;
    return since >= 0 && since < this.#gateMs;
  }

  /** @param {string} token */
  #take(token) {
    const replaces = this.#token !== null;
    this.#token = token;
    this.#foreignRefusals = 0;
    this.#arrived?.(token);
    if (replaces) for (const { changed } of this.#listeners) changed(token);
  }

  /** Work that waits is tried now, unless this is one of a row of tokens that were all refused. */
  #release() {
    const since = this.#clock.elapsed() - this.#releasedAt;
    this.#releaseGapMs = this.#refusedSinceRelease ? Math.min(Math.max(this.#releaseGapMs * 2, 1_000), RELEASE_CAP_MS) : 0;
    this.#cancelRelease();
    const release = () => {
      this.#releasedAt = this.#clock.elapsed();
      this.#refusedSinceRelease = false;
      for (const { released } of this.#listeners) released();
    };
    if (since < 0 || since >= this.#releaseGapMs) release();
    else this.#cancelRelease = this.#clock.after(this.#releaseGapMs - since, release);
  }

  /** @param {unknown} given @returns {string} */
  #checked(given) {
    return checkToken(given, this.#owner);
  }
}
