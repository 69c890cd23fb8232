// What is being tried again at this moment, and why: one entry for each kind of work.

/** @typedef {import("./errors.js").ChatError} ChatError */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./types.js").Retried} Retried */

export class Retrying {
  #changed;
  #recovered;
  /** @type {Map<Work, ChatError>} */
  #works = new Map();
  /** @type {readonly Retried[]} */
  #list = Object.freeze([]);

  /**
   * @param {() => void} changed
   * @param {() => void} recovered Something that had failed is over.
   */
  constructor(changed, recovered) {
    this.#changed = changed;
    this.#recovered = recovered;
  }

  /** The same array until something changes. @returns {readonly Retried[]} */
  get list() {
    return this.#list;
  }

  /** @param {Work} work @param {ChatError} error */
  failed(work, error) {
    this.#works.set(work, error);
    this.#update();
  }

  /** It is not tried again any more, or has succeeded. @param {Work} work */
  over(work) {
    if (!this.#works.delete(work)) return;
    this.#update();
    this.#recovered();
  }

  clear() {
    if (this.#works.size === 0) return;
    this.#works.clear();
    this.#update();
  }

  #update() {
    this.#list = Object.freeze([...this.#works].map(([work, error]) => Object.freeze({ work, error })));
    this.#changed();
  }
}
