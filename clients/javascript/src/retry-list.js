// What is being tried again at this moment, and why: one entry for each kind of work.

/** @typedef {import("./errors.js").ChatError} ChatError */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./types.js").Retried} Retried */

export class RetryList {
  #onChange;
  #onRecovered;
  /** @type {Map<Work, ChatError>} */
  #errors = new Map();
  /** @type {readonly Retried[]} */
  #list = Object.freeze([]);

  /**
   * @param {() => void} onChange
   * @param {() => void} onRecovered Something that had failed is over.
   */
  constructor(onChange, onRecovered) {
    this.#onChange = onChange;
    this.#onRecovered = onRecovered;
  }

  /** The same array until something changes. @returns {readonly Retried[]} */
  get list() {
    return this.#list;
  }

  /** @param {Work} work @param {ChatError} error */
  add(work, error) {
    this.#errors.set(work, error);
    this.#update();
  }

  /** It is not tried again any more, or has succeeded. @param {Work} work */
  remove(work) {
    if (!this.#errors.delete(work)) return;
    this.#update();
    this.#onRecovered();
  }

  clear() {
    if (this.#errors.size === 0) return;
    this.#errors.clear();
    this.#update();
  }

  #update() {
    this.#list = Object.freeze([...this.#errors].map(([work, error]) => Object.freeze({ work, error })));
    this.#onChange();
  }
}
