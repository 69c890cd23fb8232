// Who is online: asked for when the socket of a conversation is ready, and told by it from then on. Unknown (null) as long as nothing
// was written there: the server names acquaintances only.

import { asChatError } from "./errors.js";
import { keyOf } from "./participant.js";

/** @typedef {import("./types.js").Participant} Participant */

const MOST = 1_000;

export class PresenceBook {
  #context;
  #changed;
  /** @type {Map<string, import("./types.js").Presence>} */
  #known = new Map();
  /** @type {Set<string>} */
  #heard = new Set();

  /**
   * @param {Pick<import("./client.js").Context, "http" | "location_id">} context
   * @param {(who: Participant) => void} changed
   */
  constructor(context, changed) {
    this.#context = context;
    this.#changed = changed;
  }

  /** @param {Participant} who @returns {import("./types.js").Presence | null} */
  of(who) {
    return this.#known.get(keyOf(who)) ?? null;
  }

  /** @param {Participant} who @returns {Promise<import("./types.js").Presence | null>} */
  async ask(who) {
    const key = keyOf(who);
    this.#heard.delete(key);
    try {
      const answer = await this.#context.http.get("/chat/presence", { location_id: this.#context.location_id, ...who });
      const found = answer.participants.find((/** @type {any} */ one) => one.user_id === who.user_id && one.contact_id === who.contact_id);
      if (found && !this.#heard.has(key)) this.#note(who, found); // what a socket told meanwhile is newer
    } catch (thrown) {
      const { retryable } = asChatError(thrown, "network");
      if (!retryable) this.#known.delete(key); // not known here, or not to us
    }
    return this.of(who);
  }

  /** A frame of a socket. @param {any} frame */
  heard(frame) {
    const who = frame.user_id !== undefined ? { user_id: frame.user_id } : { contact_id: frame.contact_id };
    this.#heard.add(keyOf(who));
    this.#note(who, frame);
  }

  /** @param {Participant} who @param {{ online: boolean, last_seen_at?: string | null }} presence */
  #note(who, { online, last_seen_at }) {
    const key = keyOf(who);
    this.#known.delete(key);
    this.#known.set(key, Object.freeze({ online, last_seen_at: last_seen_at ?? null }));
    if (this.#known.size > MOST) {
      const oldest = String(this.#known.keys().next().value);
      this.#known.delete(oldest);
      this.#heard.delete(oldest);
    }
    this.#changed(who);
  }
}
