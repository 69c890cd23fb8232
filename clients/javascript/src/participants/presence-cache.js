// The presence of participants, as the server last reported it. At most 1,000 entries; the oldest leaves first.
//
// The presence of a participant without an open conversation expires after a minute. The server omits participants without a
// shared conversation, so their presence is unknown (null).

import { toChatError } from "../errors.js";
import { isPresence } from "../http/shapes.js";
import { keyOf } from "./participant.js";
import { PresenceWatch } from "./presence-watch.js";

/** @typedef {import("../types.js").Participant} Participant */
/** @typedef {import("../types.js").Presence} Presence */
/** @typedef {import("../errors.js").ChatError} ChatError */

const CAPACITY = 1_000;
const UNWATCHED_TTL_MS = 60_000;

export class PresenceCache {
  #context;
  #onChange;
  /** @type {Map<string, { presence: Presence, at: number }>} */
  #entries = new Map();
  /** @type {Set<string>} Participants whose presence came by a frame after their last load began. */
  #updatedByFrame = new Set();
  /** @type {Map<string, number>} The number of open conversations per participant. */
  #watchCounts = new Map();

  /**
   * @param {Pick<import("../context.js").Services, "http" | "location_id" | "clock" | "random">} context
   * @param {(participant: Participant) => void} onChange
   */
  constructor(context, onChange) {
    this.#context = context;
    this.#onChange = onChange;
  }

  /** @param {Participant} participant @returns {Presence | null} */
  get(participant) {
    const key = keyOf(participant);
    const entry = this.#entries.get(key);
    if (!entry) return null;
    if (!this.#watchCounts.has(key) && this.#context.clock.elapsed() - entry.at > UNWATCHED_TTL_MS) return null;
    return entry.presence;
  }

  /** What the server reports, or the cached presence when the request fails. @param {Participant} participant @returns {Promise<Presence | null>} */
  async fetch(participant) {
    await this.load(participant).catch(() => {});
    return this.get(participant);
  }

  /** @param {Participant} participant @returns {Promise<void>} */
  async load(participant) {
    const key = keyOf(participant);
    this.#updatedByFrame.delete(key);
    try {
      const response = await this.#context.http.get("/chat/presence", { location_id: this.#context.location_id, ...participant }, isPresence);
      const found = response.participants.find((/** @type {any} */ one) => one.user_id === participant.user_id && one.contact_id === participant.contact_id);
      if (this.#updatedByFrame.has(key)) return; // a frame is newer than the response
      if (found) this.#store(participant, found);
      else this.forget(participant);
    } catch (thrown) {
      const { retryable } = toChatError(thrown, "network");
      if (!retryable) this.forget(participant); // the server refuses to say
      throw thrown;
    }
  }

  /** Takes a `presence` frame of a socket. @param {any} frame */
  applyFrame(frame) {
    const participant = frame.user_id !== undefined ? { user_id: frame.user_id } : { contact_id: frame.contact_id };
    this.#updatedByFrame.add(keyOf(participant));
    this.#store(participant, frame);
  }

  /** The presence is unknown from now on. @param {Participant} participant */
  forget(participant) {
    if (this.#entries.delete(keyOf(participant))) this.#onChange(participant);
  }

  /**
   * Keeps the presence current while a conversation is open.
   * @param {Participant} participant
   * @param {{ onFailed: (error: ChatError) => void, onRecovered: () => void }} owner
   */
  watch(participant, owner) {
    const key = keyOf(participant);
    return new PresenceWatch(this.#context, {
      load: () => this.load(participant),
      forget: () => this.forget(participant),
      onWatch: (isWatched) => {
        const count = (this.#watchCounts.get(key) ?? 0) + (isWatched ? 1 : -1);
        if (count > 0) this.#watchCounts.set(key, count);
        else this.#watchCounts.delete(key);
      },
      ...owner,
    });
  }

  /** @param {Participant} participant @param {{ online: boolean, last_seen_at?: string | null }} presence */
  #store(participant, { online, last_seen_at }) {
    const key = keyOf(participant);
    this.#entries.delete(key); // so that the entry becomes the newest one
    this.#entries.set(key, { presence: Object.freeze({ online, last_seen_at: last_seen_at ?? null }), at: this.#context.clock.elapsed() });
    if (this.#entries.size > CAPACITY) {
      const oldest = String(this.#entries.keys().next().value);
      this.#entries.delete(oldest);
      this.#updatedByFrame.delete(oldest);
    }
    this.#onChange(participant);
  }
}
