// Loads something again: now, until it works; and every few seconds as long as nobody tells what is new. One load at a
// time; what is asked for during one is another one behind it.

import { Backoff } from "./backoff.js";
import { Pause } from "./clock.js";
import { asChatError } from "./errors.js";

const POLL_MS = 4_000;

export class Reloader {
  #load;
  #failed;
  #rested;
  #clock;
  #random;
  #backoff;
  #pause;
  #wanted = false;
  #glance = false;
  #running = false;
  #polling = false;
  #unauthorized = false;
  #closed = false;
  /** @type {() => void} */
  #cancelPoll = () => {};

  /**
   * @param {{ clock: import("./types.js").Clock, random: () => number }} context
   * @param {(glance: boolean) => Promise<void>} load `glance`: it is only a poll.
   * @param {(error: import("./errors.js").ChatError) => void} failed It is not tried again by itself; after a 401 by `hurry`.
   * @param {() => void} [rested] Nothing is being loaded any more, or not until a failure has been waited for.
   */
  constructor({ clock, random }, load, failed, rested = () => {}) {
    /** Whether it is loading, and not waiting to. */
    this.loading = false;
    this.#load = load;
    this.#failed = failed;
    this.#rested = rested;
    this.#clock = clock;
    this.#random = random;
    this.#backoff = new Backoff(random, { base: 500, cap: 15_000 });
    this.#pause = new Pause(clock);
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

  endPause() {
    this.#pause.end();
  }

  hurry() {
    this.endPause();
    if (this.#polling || this.#unauthorized) this.now();
  }

  close() {
    this.#closed = true;
    this.#wanted = false;
    this.poll(false);
    this.#pause.end();
  }

  #schedule() {
    this.#cancelPoll();
    this.#cancelPoll = () => {};
    if (!this.#polling) return;
    this.#cancelPoll = this.#clock.after(POLL_MS * (0.75 + this.#random() / 2), () => this.now(true));
  }

  async #run() {
    this.#running = true;
    while (this.#wanted && !this.#closed) {
      const glance = this.#glance;
      this.#wanted = this.#glance = false;
      this.loading = true;
      this.#unauthorized = false;
      try {
        await this.#load(glance);
        this.#backoff.reset();
      } catch (thrown) {
        if (this.#closed) break;
        const error = asChatError(thrown, "network");
        if (error.retryable) {
          this.#glance = glance && (this.#glance || !this.#wanted);
          this.#wanted = true;
          this.#rest();
          await this.#pause.wait(this.#backoff.next(error.retryAfter));
        } else {
          this.#unauthorized = error.status === 401; // a token may come: `hurry`
          this.#failed(error);
        }
      }
    }
    this.#running = false;
    this.#rest();
    this.#schedule();
  }

  #rest() {
    this.loading = false;
    this.#rested();
  }
}
