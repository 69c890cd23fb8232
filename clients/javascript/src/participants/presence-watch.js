// Keeps the presence of one participant current while a conversation is open. Frames deliver changes. Without frames the watch polls.
// A presence that no response confirms for 20 seconds becomes unknown.

import { Refetcher } from "../retry/refetcher.js";

/** @typedef {import("../errors.js").ChatError} ChatError */

const POLL_INTERVAL_MS = 10_000;
const STALE_AFTER_MS = 20_000;

/**
 * @typedef {object} Owner
 * @property {() => Promise<void>} load
 * @property {() => void} forget The presence is unknown from now on.
 * @property {(isWatched: boolean) => void} onWatch
 * @property {(error: ChatError) => void} onFailed The watch will retry.
 * @property {() => void} onRecovered
 */

export class PresenceWatch {
  #clock;
  #owner;
  #refetcher;
  #isOpen = false;
  /** @type {boolean | null} Whether frames deliver changes; null before the first call of `setFramesAvailable`. */
  #hasFrames = null;
  /** @type {(() => void) | null} */
  #cancelStaleTimer = null;

  /**
   * @param {{ clock: import("../types.js").Clock, random: () => number }} context
   * @param {Owner} owner
   */
  constructor(context, owner) {
    this.#clock = context.clock;
    this.#owner = owner;
    this.#refetcher = new Refetcher(context, { load: () => this.#load(), onFailed: owner.onFailed, onRecovered: owner.onRecovered }, POLL_INTERVAL_MS);
  }

  open() {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#owner.onWatch(true);
  }

  /**
   * @param {boolean} hasFrames Whether frames deliver changes from now on.
   * @param {boolean} mayPoll Whether polling makes sense without frames.
   */
  setFramesAvailable(hasFrames, mayPoll) {
    if (!this.#isOpen) return;
    this.#refetcher.setPolling(!hasFrames && mayPoll);
    if (hasFrames === this.#hasFrames) return;
    this.#hasFrames = hasFrames;
    if (hasFrames) this.#stopStaleTimer();
    else this.#startStaleTimer();
  }

  /** Loads the presence, because frames may have been missed. */
  refetch() {
    if (!this.#isOpen) return;
    this.#refetcher.refetch();
    this.#refetcher.skipWait();
  }

  /** The user asks for an attempt. */
  retryNow() {
    this.#refetcher.retryNow(true);
  }

  /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
  shortenWait(hadFailed) {
    this.#refetcher.shortenWait(hadFailed);
  }

  close() {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#hasFrames = null;
    this.#stopStaleTimer();
    this.#refetcher.close();
    this.#owner.onWatch(false);
  }

  async #load() {
    await this.#owner.load();
    if (this.#cancelStaleTimer) this.#startStaleTimer();
  }

  #startStaleTimer() {
    this.#stopStaleTimer();
    this.#cancelStaleTimer = this.#clock.after(STALE_AFTER_MS, () => { this.#cancelStaleTimer = null; this.#owner.forget(); });
  }

  #stopStaleTimer() {
    this.#cancelStaleTimer?.();
    this.#cancelStaleTimer = null;
  }
}
