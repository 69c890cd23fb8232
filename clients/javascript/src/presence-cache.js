// Who is online: asked for when the socket of a conversation is ready, and told by it from then on. While no frames come,
// it is asked for now and then; what nobody has confirmed for a while is unknown (null), and so is everything as long as
// nothing was written in a conversation: the server names acquaintances only.

import { isPresence } from "./response.js";
import { toChatError } from "./errors.js";
import { keyOf } from "./participant.js";
import { Refetcher } from "./refetcher.js";

/** @typedef {import("./types.js").Participant} Participant */
/** @typedef {import("./types.js").Presence} Presence */
/** @typedef {import("./errors.js").ChatError} ChatError */

const CAPACITY = 1_000;
const POLL_INTERVAL_MS = 10_000;
const STALE_AFTER_MS = 20_000; // without frames
const UNWATCHED_TTL_MS = 60_000; // of somebody of whom no conversation is open

export class PresenceCache {
  #context;
  #onChange;
  /** @type {Map<string, { presence: Presence, at: number }>} */
  #entries = new Map();
  /** @type {Set<string>} */
  #updatedByFrame = new Set();
  /** @type {Map<string, number>} How many conversations look after it. */
  #watchCounts = new Map();

  /**
   * @param {Pick<import("./chat.js").Context, "http" | "location_id" | "clock" | "random">} context
   * @param {(who: Participant) => void} onChange
   */
  constructor(context, onChange) {
    this.#context = context;
    this.#onChange = onChange;
  }

  /** @param {Participant} who @returns {Presence | null} */
  get(who) {
    const key = keyOf(who);
    const entry = this.#entries.get(key);
    if (!entry) return null;
    if (!this.#watchCounts.has(key) && this.#context.clock.elapsed() - entry.at > UNWATCHED_TTL_MS) return null;
    return entry.presence;
  }

  /** What the server says; what is known when it says nothing. @param {Participant} who @returns {Promise<Presence | null>} */
  async fetch(who) {
    await this.load(who).catch(() => {});
    return this.get(who);
  }

  /** @param {Participant} who @returns {Promise<void>} */
  async load(who) {
    const key = keyOf(who);
    this.#updatedByFrame.delete(key);
    try {
      const answer = await this.#context.http.get("/chat/presence", { location_id: this.#context.location_id, ...who }, isPresence);
      const found = answer.participants.find((/** @type {any} */ one) => one.user_id === who.user_id && one.contact_id === who.contact_id);
      if (this.#updatedByFrame.has(key)) return; // what a socket told meanwhile is newer
      if (found) this.#store(who, found);
      else this.forget(who);
    } catch (thrown) {
      const { retryable } = toChatError(thrown, "network");
      if (!retryable) this.forget(who); // not known here, or not to us
      throw thrown;
    }
  }

  /** A frame of a socket. @param {any} frame */
  applyFrame(frame) {
    const who = frame.user_id !== undefined ? { user_id: frame.user_id } : { contact_id: frame.contact_id };
    this.#updatedByFrame.add(keyOf(who));
    this.#store(who, frame);
  }

  /** Nobody knows. @param {Participant} who */
  forget(who) {
    if (this.#entries.delete(keyOf(who))) this.#onChange(who);
  }

  /**
   * Keeps it true for as long as a conversation is open.
   * @param {Participant} who
   * @param {{ onFailed: (error: ChatError) => void, onRecovered: () => void }} owner
   */
  watch(who, owner) {
    const key = keyOf(who);
    return new PresenceWatch(this.#context, {
      load: () => this.load(who),
      forget: () => this.forget(who),
      onWatch: (isWatched) => {
        const count = (this.#watchCounts.get(key) ?? 0) + (isWatched ? 1 : -1);
        if (count > 0) this.#watchCounts.set(key, count);
        else this.#watchCounts.delete(key);
      },
      ...owner,
    });
  }

  /** @param {Participant} who @param {{ online: boolean, last_seen_at?: string | null }} presence */
  #store(who, { online, last_seen_at }) {
    const key = keyOf(who);
    this.#entries.delete(key);
    this.#entries.set(key, { presence: Object.freeze({ online, last_seen_at: last_seen_at ?? null }), at: this.#context.clock.elapsed() });
    if (this.#entries.size > CAPACITY) {
      const oldest = String(this.#entries.keys().next().value);
      this.#entries.delete(oldest);
      this.#updatedByFrame.delete(oldest);
    }
    this.#onChange(who);
  }
}

export class PresenceWatch {
  #clock;
  #owner;
  #refetcher;
  #isOpen = false;
  /** @type {boolean | null} null until somebody says. */
  #hasFrames = null;
  /** @type {(() => void) | null} */
  #cancelStaleTimer = null;

  /**
   * @param {{ clock: import("./types.js").Clock, random: () => number }} context
   * @param {{ load: () => Promise<void>, forget: () => void, onWatch: (isWatched: boolean) => void, onFailed: (error: ChatError) => void, onRecovered: () => void }} owner
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
   * Frames tell of every change from now on, or they do not.
   * @param {boolean} on
   * @param {boolean} mayPoll Whether it is worth asking now and then while they do not.
   */
  setFramesAvailable(on, mayPoll) {
    if (!this.#isOpen) return;
    this.#refetcher.setPolling(!on && mayPoll);
    if (on === this.#hasFrames) return;
    this.#hasFrames = on;
    if (on) this.#stopStaleTimer();
    else this.#startStaleTimer();
  }

  /** How it stands is not known at the moment. */
  refetch() {
    if (!this.#isOpen) return;
    this.#refetcher.refetch();
    this.#refetcher.skipWait();
  }

  /** @param {boolean} hadFailed */
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
