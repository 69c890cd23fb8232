// What a conversation and the inbox show of their connection: state, reason, and the time of the next attempt. Changes are reported
// once per turn of the event loop, states at once.

/** @typedef {import("../types.js").State} State */

/**
 * @typedef {object} Owner
 * @property {() => import("./reconnecting-socket.js").ReconnectingSocket} getSocket
 * @property {() => import("../errors.js").ChatError | null} getLoadError Why something could not be loaded.
 * @property {(state: State) => void} onState
 * @property {() => void} onChange
 */

export class PartStatus {
  #owner;
  #isChangeScheduled = false;
  /** @type {State} */
  #lastState = "closed";

  /** @param {Owner} owner */
  constructor(owner) {
    this.#owner = owner;
  }

  /** @returns {State} */
  get state() {
    const { state } = this.#owner.getSocket();
    return state === "live" && this.#owner.getLoadError() ? "incomplete" : state;
  }

  get error() {
    return this.#owner.getSocket().error ?? this.#owner.getLoadError();
  }

  get retryAt() {
    return this.#owner.getSocket().retryAt;
  }

  /** The socket's state changed, or the error of the loads. */
  update() {
    const { state } = this;
    if (state !== this.#lastState) {
      this.#lastState = state;
      this.#owner.onState(state);
    }
    this.scheduleChange();
  }

  /** Something to show changed. */
  scheduleChange() {
    if (this.#isChangeScheduled) return;
    this.#isChangeScheduled = true;
    queueMicrotask(() => { this.#isChangeScheduled = false; this.#owner.onChange(); });
  }
}
