// Whether the machine reaches the chat server at all: what the platform says, and how the last requests ended. All parts of a chat
// share it, so one part does not claim a network that another one misses.

import { ChatError } from "../errors.js";

const ORIGIN_BLOCKED = "origin_blocked";

export class Network {
  /** @type {() => void} */
  onChange = () => {};
  #clock;
  #isForeignOrigin;
  #platformError = new ChatError("the platform reports that there is no network", { code: "network" });
  /** Whether the platform says that there is no network, and nothing has arrived since. */
  #isPlatformOffline = false;
  /** @type {ChatError | null} Why requests get no response. */
  #requestError = null;
  #respondedAt = -Infinity;

  /**
   * @param {import("../time/clock.js").FullClock} clock
   * @param {boolean} isForeignOrigin Whether the page has another origin than the server.
   */
  constructor(clock, isForeignOrigin) {
    this.#clock = clock;
    this.#isForeignOrigin = isForeignOrigin;
    this.#isPlatformOffline = isPlatformOffline();
  }

  /** Why no request reaches the server; null when requests do, or none was made yet. */
  get error() {
    return this.#isPlatformOffline ? this.#platformError : this.#requestError;
  }

  /** Whether the platform says so. Even an open connection is doubtful then. */
  get isPlatformOffline() {
    return this.#isPlatformOffline;
  }

  /** The platform reported a change. */
  updatePlatform() {
    this.#change(isPlatformOffline(), this.#requestError);
  }

  /** A response or a frame arrived. */
  recordResponse() {
    this.#respondedAt = this.#clock.elapsed();
    this.#isForeignOrigin = false; // the server accepts it
    this.#change(false, null);
  }

  /**
   * A request got no response.
   * @param {ChatError} error
   * @param {number} startedAt By `elapsed`.
   * @param {() => Promise<unknown>} reach A request that gets a response from a server that does not accept the page's origin.
   */
  recordFailure(error, startedAt, reach) {
    if (startedAt < this.#respondedAt) return; // a later request got a response
    this.#change(this.#isPlatformOffline, this.#requestError?.code === ORIGIN_BLOCKED ? this.#requestError : error);
    if (this.#isForeignOrigin && error.code === "network" && !this.#isPlatformOffline) void this.#checkOrigin(error, reach);
  }

  /**
   * Browsers do not say whether the network failed or the server's rule for origins refused the page.
   * @param {ChatError} error
   * @param {() => Promise<unknown>} reach
   */
  async #checkOrigin(error, reach) {
    const isReached = await reach().then(() => true, () => false);
    if (!this.#requestError || !this.#isForeignOrigin) return; // a request got a response meanwhile
    this.#change(this.#isPlatformOffline, isReached
      ? new ChatError("the server does not accept pages of this origin: the operator adds it to ALLOWED_ORIGINS", { code: ORIGIN_BLOCKED }) : error);
  }

  /** @param {boolean} isPlatformOffline @param {ChatError | null} requestError */
  #change(isPlatformOffline, requestError) {
    const hasChanged = isPlatformOffline !== this.#isPlatformOffline || requestError?.code !== this.#requestError?.code;
    this.#isPlatformOffline = isPlatformOffline;
    this.#requestError = requestError;
    if (hasChanged) this.onChange();
  }
}

/** Node.js does not know. */
function isPlatformOffline() {
  return globalThis.navigator?.onLine === false;
}
