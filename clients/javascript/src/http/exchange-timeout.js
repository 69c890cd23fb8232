// The time limits of one HTTP exchange: for a silence, and for the whole. A step that ignores the abort signal ends all the same.

import { ChatError } from "../errors.js";

export const EXCHANGE_TIMEOUT_MS = 300_000; // from the request to the end of the response

export class ExchangeTimeout {
  #clock;
  #abort = new AbortController();
  #cancelSilence = () => {};
  #cancelTotal;
  /** @type {(error: ChatError) => void} */
  #fail = () => {};
  /** @type {Promise<never>} */
  #expired;

  /** @param {import("../types.js").Clock} clock */
  constructor(clock) {
    this.#clock = clock;
    this.#expired = new Promise((_, reject) => { this.#fail = reject; });
    this.#expired.catch(() => {});
    this.#cancelTotal = clock.after(EXCHANGE_TIMEOUT_MS, () => this.#timeOut());
  }

  get signal() {
    return this.#abort.signal;
  }

  /** Starts the limit for the next silence. @param {number} ms */
  restart(ms) {
    this.#cancelSilence();
    this.#cancelSilence = this.#clock.after(ms, () => this.#timeOut());
  }

  /** Rejects when a limit expires before `step` settles. @template T @param {Promise<T>} step @returns {Promise<T>} */
  race(step) {
    return Promise.race([step, this.#expired]);
  }

  /** Ends the exchange. @param {ChatError} error */
  abort(error) {
    this.#fail(error);
    this.#abort.abort();
    return error;
  }

  cancel() {
    this.#cancelSilence();
    this.#cancelTotal();
  }

  #timeOut() {
    this.abort(new ChatError("the server did not answer in time", { code: "timeout" }));
  }
}
