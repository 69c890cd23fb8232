// Loads something again: now, until it works; and every few seconds as long as nobody tells what is new. One load at a
// time; what is asked for during one is another one behind it.

import { asChatError, isSameReason } from "./errors.js";
import { Retry } from "./retry.js";

const POLL_MS = 4_000;

/** @typedef {import("./errors.js").ChatError} ChatError */

/**
 * @typedef {object} Owner
 * @property {(glance: boolean) => Promise<void>} load `glance`: it is only a poll.
 * @property {(error: ChatError) => void} failed It is tried again.
 * @property {() => void} worked It has failed before, and has not now.
 * @property {() => void} [rested] Nothing is being loaded any more, or not until a failure has been waited for.
 */

export class Reloader {
  /** Whether it is loading, and not waiting to. */
  loading = false;
  /** @type {ChatError | null} Why the last load failed. */
  error = null;
  #owner;
  #clock;
  #random;
  #pollMs;
  #retry;
  #wanted = false;
  #glance = false;
  #running = false;
  #polling = false;
  #closed = false;
  #cancelPoll = () => {};

  /**
   * @param {{ clock: import("./types.js").Clock, random: () => number }} context
   * @param {Owner} owner
   * @param {number} [pollMs]
   */
  constructor({ clock, random }, owner, pollMs = POLL_MS) {
    this.#owner = owner;
    this.#clock = clock;
    this.#random = random;
    this.#pollMs = pollMs;
    this.#retry = new Retry({ clock, random }, { base: 500, cap: 15_000 });
  }

  /** @param {boolean} [glance] */
  now(glance = false) {
    this.#closed = false;
    this.#glance = glance && (this.#glance || !this.#wanted);
    this.#wanted = true;
    if (!this.#running) void this.#run();
  }

  /** @param {boolean} on */
  poll(on) {
    if (on === this.#polling) return;
    this.#polling = on;
    this.#schedule();
  }

  /** Something has changed for the better. */
  hurry() {
    this.#retry.hurry();
    if (this.#polling) this.now();
  }

  /** Other work has succeeded. @param {boolean} hadFailed Before. */
  nudge(hadFailed) {
    this.#retry.nudge(hadFailed);
  }

  /** The server is there again, as a socket tells: what a failure waits for is over. */
  endWait() {
    this.#retry.hurry();
  }

  close() {
    this.#closed = true;
    this.#wanted = false;
    this.error = null;
    this.poll(false);
    this.#retry.end();
    this.#retry.succeeded();
  }

  #schedule() {
    this.#cancelPoll();
    this.#cancelPoll = () => {};
    if (!this.#polling) return;
    this.#cancelPoll = this.#clock.after(this.#pollMs * (0.75 + this.#random() / 2), () => this.now(true));
  }

  async #run() {
    this.#running = true;
    while (this.#wanted && !this.#closed) {
      const glance = this.#glance;
      this.#wanted = this.#glance = false;
      this.loading = true;
      try {
        await this.#owner.load(glance);
        if (this.#closed) break;
        this.#retry.succeeded();
        if (this.error) {
          this.error = null;
          this.#owner.worked();
        }
      } catch (thrown) {
        if (this.#closed) break;
        this.error = asChatError(thrown, "network");
        this.#glance = glance && (this.#glance || !this.#wanted);
        this.#wanted = true;
        this.#owner.failed(this.error);
        this.#rest();
        await this.#retry.wait(this.error);
      }
    }
    this.#running = false;
    this.#rest();
    this.#schedule();
  }

  #rest() {
    this.loading = false;
    this.#owner.rested?.();
  }
}

/**
 * What a conversation and the inbox tell of their loads.
 * @param {import("./types.js").Work} work
 * @param {{
 *   failed: (work: import("./types.js").Work, error: ChatError) => void, over: (work: import("./types.js").Work) => void,
 *   refused: (error: ChatError) => void, changed: () => void,
 * }} owner `refused`: by the server, for this reason for the first time.
 * @returns {Pick<Owner, "failed" | "worked">}
 */
export function reportOf(work, { failed, over, refused, changed }) {
  /** @type {ChatError | null} */
  let told = null;
  return {
    failed: (error) => {
      failed(work, error);
      if (!error.retryable) {
        if (!isSameReason(error, told)) refused(error);
        told = error;
      }
      changed();
    },
    worked: () => {
      over(work);
      told = null;
      changed();
    },
  };
}
