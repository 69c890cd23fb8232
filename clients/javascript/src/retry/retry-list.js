// The work that currently waits for a retry, with its last error. At most one entry per kind of work.

/** @typedef {import("../errors.js").ChatError} ChatError */
/** @typedef {import("../types.js").Work} Work */
/** @typedef {import("../types.js").Retried} Retried */

/**
 * @typedef {object} Owner
 * @property {() => void} onChange
 * @property {(work: Work, error: ChatError) => void} onFailed
 * @property {() => void} onRecovered An entry was removed.
 */

export class RetryList {
  #owner;
  /** @type {Map<Work, ChatError>} */
  #errors = new Map();
  /** @type {readonly Retried[]} */
  #list = Object.freeze([]);

  /** @param {Owner} owner */
  constructor(owner) {
    this.#owner = owner;
  }

  /** The same array until an entry changes. @returns {readonly Retried[]} */
  get list() {
    return this.#list;
  }

  /** The work failed and will be retried. @param {Work} work @param {ChatError} error */
  add(work, error) {
    this.#errors.set(work, error);
    this.#update();
    this.#owner.onFailed(work, error);
  }

  /** The work succeeded, or its owner gave it up. @param {Work} work */
  remove(work) {
    if (!this.#errors.delete(work)) return;
    this.#update();
    this.#owner.onRecovered();
  }

  clear() {
    if (this.#errors.size === 0) return;
    this.#errors.clear();
    this.#update();
  }

  #update() {
    this.#list = Object.freeze([...this.#errors].map(([work, error]) => Object.freeze({ work, error })));
    this.#owner.onChange();
  }
}
