// Who is online: asked for when the socket of a conversation is ready, and told by it from then on. While no frames come,
// it is asked for now and then; what nobody has confirmed for a while is unknown (null), and so is everything as long as
// nothing was written in a conversation: the server names acquaintances only.

import { isPresence } from "./answer.js";
import { asChatError } from "./errors.js";
import { keyOf } from "./participant.js";
import { Reloader } from "./reloader.js";

/** @typedef {import("./types.js").Participant} Participant */
/** @typedef {import("./types.js").Presence} Presence */
/** @typedef {import("./errors.js").ChatError} ChatError */

const MOST = 1_000;
const POLL_MS = 10_000;
const STALE_MS = 20_000; // without frames
const SNAPSHOT_MS = 60_000; // of somebody of whom no conversation is open

export class PresenceBook {
  #context;
  #changed;
  /** @type {Map<string, { presence: Presence, at: number }>} */
  #known = new Map();
  /** @type {Set<string>} */
  #heard = new Set();
  /** @type {Map<string, number>} How many conversations look after it. */
  #watched = new Map();

  /**
   * @param {Pick<import("./client.js").Context, "http" | "location_id" | "clock" | "random">} context
   * @param {(who: Participant) => void} changed
   */
  constructor(context, changed) {
    this.#context = context;
    this.#changed = changed;
  }

  /** @param {Participant} who @returns {Presence | null} */
  of(who) {
    const key = keyOf(who);
    const known = this.#known.get(key);
    if (!known) return null;
    if (!this.#watched.has(key) && this.#context.clock.elapsed() - known.at > SNAPSHOT_MS) return null;
    return known.presence;
  }

  /** What the server says; what is known when it says nothing. @param {Participant} who @returns {Promise<Presence | null>} */
  async ask(who) {
    await this.load(who).catch(() => {});
    return this.of(who);
  }

  /** @param {Participant} who @returns {Promise<void>} */
  async load(who) {
    const key = keyOf(who);
    this.#heard.delete(key);
    try {
      const answer = await this.#context.http.get("/chat/presence", { location_id: this.#context.location_id, ...who }, isPresence);
      const found = answer.participants.find((/** @type {any} */ one) => one.user_id === who.user_id && one.contact_id === who.contact_id);
      if (this.#heard.has(key)) return; // what a socket told meanwhile is newer
      if (found) this.#note(who, found);
      else this.forget(who);
    } catch (thrown) {
      const { retryable } = asChatError(thrown, "network");
      if (!retryable) this.forget(who); // not known here, or not to us
      throw thrown;
    }
  }

  /** A frame of a socket. @param {any} frame */
  heard(frame) {
    const who = frame.user_id !== undefined ? { user_id: frame.user_id } : { contact_id: frame.contact_id };
    this.#heard.add(keyOf(who));
    this.#note(who, frame);
  }

  /** Nobody knows. @param {Participant} who */
  forget(who) {
    if (this.#known.delete(keyOf(who))) this.#changed(who);
  }

  /**
   * Keeps it true for as long as a conversation is open.
   * @param {Participant} who
   * @param {{ failed: (error: ChatError) => void, worked: () => void }} owner
   */
  watch(who, owner) {
    const key = keyOf(who);
    return new PresenceWatch(this.#context, {
      load: () => this.load(who),
      forget: () => this.forget(who),
      watched: (isWatched) => {
        const count = (this.#watched.get(key) ?? 0) + (isWatched ? 1 : -1);
        if (count > 0) this.#watched.set(key, count);
        else this.#watched.delete(key);
      },
      ...owner,
    });
  }

  /** @param {Participant} who @param {{ online: boolean, last_seen_at?: string | null }} presence */
  #note(who, { online, last_seen_at }) {
    const key = keyOf(who);
    this.#known.delete(key);
    this.#known.set(key, { presence: Object.freeze({ online, last_seen_at: last_seen_at ?? null }), at: this.#context.clock.elapsed() });
    if (this.#known.size > MOST) {
      const oldest = String(this.#known.keys().next().value);
      this.#known.delete(oldest);
      this.#heard.delete(oldest);
    }
    this.#changed(who);
  }
}

export class PresenceWatch {
  #clock;
  #owner;
  #reloader;
  #isOpen = false;
  /** @type {boolean | null} null until somebody says. */
  #isTold = null;
  /** @type {(() => void) | null} */
  #cancelStale = null;

  /**
   * @param {{ clock: import("./types.js").Clock, random: () => number }} context
   * @param {{ load: () => Promise<void>, forget: () => void, watched: (isWatched: boolean) => void, failed: (error: ChatError) => void, worked: () => void }} owner
   */
  constructor(context, owner) {
    this.#clock = context.clock;
    this.#owner = owner;
    this.#reloader = new Reloader(context, { load: () => this.#load(), failed: owner.failed, worked: owner.worked }, POLL_MS);
  }

  open() {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#owner.watched(true);
  }

  /**
   * Frames tell of every change from now on, or they do not.
   * @param {boolean} on
   * @param {boolean} mayAsk Whether it is worth asking now and then while they do not.
   */
  told(on, mayAsk) {
    if (!this.#isOpen) return;
    this.#reloader.poll(!on && mayAsk);
    if (on === this.#isTold) return;
    this.#isTold = on;
    if (on) this.#endStale();
    else this.#awaitStale();
  }

  /** How it stands is not known at the moment. */
  ask() {
    if (!this.#isOpen) return;
    this.#reloader.now();
    this.#reloader.endWait();
  }

  /** @param {boolean} hadFailed */
  nudge(hadFailed) {
    this.#reloader.nudge(hadFailed);
  }

  close() {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#isTold = null;
    this.#endStale();
    this.#reloader.close();
    this.#owner.watched(false);
  }

  async #load() {
    await this.#owner.load();
    if (this.#cancelStale) this.#awaitStale();
  }

  #awaitStale() {
    this.#endStale();
    this.#cancelStale = this.#clock.after(STALE_MS, () => { this.#cancelStale = null; this.#owner.forget(); });
  }

  #endStale() {
    this.#cancelStale?.();
    this.#cancelStale = null;
  }
}
