// Questions over HTTP: the token, limits of time, JSON, and problems as errors. One refusal of the token is answered with
// a fresh one; everything else is the caller's to try again.
//
// The limits are on silence. An answer that keeps coming is not cut off, so a slow line brings a long page in the end; only
// an answer that would take forever is.

import { foreign, parse, problemOf } from "./answer.js";
import { asChatError, ChatError } from "./errors.js";

export { retryAfter } from "./answer.js";

const SILENCE_MS = 15_000; // before the answer, and between two pieces of it
const SLOWEST_UPLOAD = 1; // characters of a request per millisecond: nobody tells how far an upload is
const LONGEST_MS = 300_000; // from the question to the end of the answer
const MOST_BYTES = 32 * 1024 * 1024;

/** @typedef {{ [name: string]: string | number | undefined }} Query */
/** @typedef {import("./answer.js").Shape} Shape */

export class Http {
  #base;
  #fetch;
  #credentials;
  #clock;
  /** Called after each answer that was a success. @type {() => void} */
  succeeded = () => {};

  /**
   * @param {string} base
   * @param {(input: string, init: RequestInit) => Promise<Response>} fetch
   * @param {import("./credentials.js").Credentials} credentials
   * @param {import("./types.js").Clock} clock
   */
  constructor(base, fetch, credentials, clock) {
    this.#base = base;
    this.#fetch = fetch;
    this.#credentials = credentials;
    this.#clock = clock;
  }

  /**
   * @param {string} path
   * @param {Query} query
   * @param {Shape} shape What the answer must be.
   * @returns {Promise<any>}
   */
  get(path, query, shape) {
    const pairs = Object.entries(query).filter(([, value]) => value !== undefined).map(([name, value]) => [name, String(value)]);
    return this.#ask("GET", `${path}?${new URLSearchParams(pairs)}`, undefined, shape);
  }

  /** @param {string} path @param {object} body @param {Shape} shape @returns {Promise<any>} */
  post(path, body, shape) {
    return this.#ask("POST", path, body, shape);
  }

  /** @param {string} path @param {object} body @param {Shape} shape @returns {Promise<any>} */
  put(path, body, shape) {
    return this.#ask("PUT", path, body, shape);
  }

  /** @param {string} method @param {string} path @param {object | undefined} body @param {Shape} shape */
  async #ask(method, path, body, shape) {
    const token = await this.#credentials.current();
    try {
      return await this.#once(method, path, body, shape, token);
    } catch (error) {
      if (!(error instanceof ChatError) || error.status !== 401) throw error;
      if (error.isForeign && !this.#credentials.refusedInBetween()) throw error;
      const fresh = await this.#credentials.renew(token, "refused");
      if (!fresh) throw error;
      return this.#once(method, path, body, shape, fresh);
    }
  }

  /** @param {string} method @param {string} path @param {object | undefined} body @param {Shape} shape @param {string} token */
  async #once(method, path, body, shape, token) {
    const patience = new Patience(this.#clock);
    try {
      /** @type {Record<string, string>} */
      const headers = { Accept: "application/json", Authorization: `Bearer ${token}` };
      if (body) headers["Content-Type"] = "application/json";
      const sent = body && JSON.stringify(body);
      patience.wait(SILENCE_MS + (sent?.length ?? 0) / SLOWEST_UPLOAD);
      const fetch = this.#fetch; // not as a method: browsers want it called on `window`
      const answer = await patience.bound(fetch(this.#base + path, {
        method, headers, body: sent, credentials: "omit", cache: "no-store", signal: patience.signal,
      }));
      const text = await read(answer, patience);
      if (!answer.ok) throw problemOf(answer, text, this.#clock.now());
      const value = parse(text);
      if (value === null || !shape(value)) throw foreign(answer);
      this.#credentials.accepted(token);
      this.succeeded();
      return value;
    } catch (thrown) {
      const error = asChatError(thrown, "network");
      if (error.isUnauthorized) this.#credentials.refused(token);
      throw error;
    } finally {
      patience.end();
    }
  }
}

/**
 * The body, as text.
 * @param {Response} answer
 * @param {Patience} patience
 */
async function read(answer, patience) {
  const reader = answer.body?.getReader?.();
  if (!reader) { // a platform that does not tell of the pieces
    patience.wait(LONGEST_MS);
    return patience.bound(answer.text());
  }
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (;;) {
    patience.wait(SILENCE_MS);
    const { done, value } = await patience.bound(reader.read());
    if (done) return text + decoder.decode();
    bytes += value.length;
    if (bytes > MOST_BYTES) throw patience.giveUp(foreign(answer));
    text += decoder.decode(value, { stream: true });
  }
}

/** How long one exchange may be silent, and last. Whatever it waits for ends, even where nothing heeds the signal. */
class Patience {
  #clock;
  #abort = new AbortController();
  #cancel = () => {};
  #cancelWhole;
  /** @type {(error: ChatError) => void} */
  #fail = () => {};
  /** @type {Promise<never>} */
  #over;

  /** @param {import("./types.js").Clock} clock */
  constructor(clock) {
    this.#clock = clock;
    this.#over = new Promise((_, reject) => { this.#fail = reject; });
    this.#over.catch(() => {});
    this.#cancelWhole = clock.after(LONGEST_MS, () => this.#timeOut());
  }

  get signal() {
    return this.#abort.signal;
  }

  /** From now on it may be silent for so long. @param {number} ms */
  wait(ms) {
    this.#cancel();
    this.#cancel = this.#clock.after(ms, () => this.#timeOut());
  }

  /** @template T @param {Promise<T>} step @returns {Promise<T>} */
  bound(step) {
    return Promise.race([step, this.#over]);
  }

  /** @param {ChatError} error */
  giveUp(error) {
    this.#fail(error);
    this.#abort.abort();
    return error;
  }

  end() {
    this.#cancel();
    this.#cancelWhole();
  }

  #timeOut() {
    this.giveUp(new ChatError("the server did not answer in time", { code: "timeout" }));
  }
}
