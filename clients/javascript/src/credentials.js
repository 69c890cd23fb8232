// The token in force. Whoever finds it refused or ending asks for another; those who ask at once share one answer.
// It is kept in memory only, and goes nowhere but to the server.

import { asChatError, ChatError } from "./errors.js";

export class Credentials {
  #source;
  /** @type {string | null} */
  #token = null;
  /** @type {Promise<string | null> | null} */
  #asking = null;
  /** @type {Set<(token: string) => void>} */
  #listeners = new Set();

  /** @param {string | import("./types.js").TokenSource} source */
  constructor(source) {
    this.#source = source;
  }

  /** Calls `listener` with each token that takes the place of another. @param {(token: string) => void} listener */
  onChange(listener) {
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
   * Another token than `used`, or null when there is none to be had.
   * @param {string} used
   * @param {"expiring" | "refused"} reason
   * @returns {Promise<string | null>}
   */
  async renew(used, reason) {
    if (this.#token && this.#token !== used) return this.#token;
    const token = await this.#ask(reason);
    return token === used ? null : token;
  }

  /** A token that came on its own. @param {string} token */
  set(token) {
    if (token === this.#token) return;
    const replaces = this.#token !== null;
    this.#token = token;
    if (replaces) for (const listener of this.#listeners) listener(token);
  }

  /** @param {"first" | "expiring" | "refused"} reason */
  #ask(reason) {
    this.#asking ??= this.#fetch(reason).finally(() => { this.#asking = null; });
    return this.#asking;
  }

  /** @param {"first" | "expiring" | "refused"} reason */
  async #fetch(reason) {
    const source = this.#source;
    if (typeof source === "string") {
      if (reason === "first") this.set(source);
      return this.#token;
    }
    let token;
    try {
      token = await source(reason);
    } catch (error) {
      throw asChatError(error, "token");
    }
    if (typeof token !== "string" || token === "") throw new ChatError("the token callback gave no token", { code: "token" });
    this.set(token);
    return token;
  }
}
