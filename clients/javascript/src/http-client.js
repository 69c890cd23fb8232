// Questions over HTTP: the token, limits of time, JSON, and problems as errors. One refusal of the token is answered with
// a fresh one; everything else is the caller's to try again.
//
// The limits are on silence. An answer that keeps coming is not cut off, so a slow line brings a long page in the end; only
// an answer that would take forever is.

import { foreignError, parseObject, errorFromResponse } from "./response.js";
import { toChatError, ChatError } from "./errors.js";

export { parseRetryAfter } from "./response.js";

const SILENCE_TIMEOUT_MS = 15_000; // before the answer, and between two pieces of it
const MIN_UPLOAD_CHARS_PER_MS = 1; // characters of a request per millisecond: nobody tells how far an upload is
const EXCHANGE_TIMEOUT_MS = 300_000; // from the question to the end of the answer
const MAX_RESPONSE_BYTES = 32 * 1024 * 1024;

/** @typedef {{ [name: string]: string | number | undefined }} Query */
/** @typedef {import("./response.js").Shape} Shape */

export class HttpClient {
  #base;
  #fetch;
  #tokenProvider;
  #clock;
  /** Called after each answer that was a success. @type {() => void} */
  onSuccess = () => {};

  /**
   * @param {string} base
   * @param {(input: string, init: RequestInit) => Promise<Response>} fetch
   * @param {import("./token-provider.js").TokenProvider} tokenProvider
   * @param {import("./types.js").Clock} clock
   */
  constructor(base, fetch, tokenProvider, clock) {
    this.#base = base;
    this.#fetch = fetch;
    this.#tokenProvider = tokenProvider;
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
    return this.#request("GET", `${path}?${new URLSearchParams(pairs)}`, undefined, shape);
  }

  /** @param {string} path @param {object} body @param {Shape} shape @returns {Promise<any>} */
  post(path, body, shape) {
    return this.#request("POST", path, body, shape);
  }

  /** @param {string} path @param {object} body @param {Shape} shape @returns {Promise<any>} */
  put(path, body, shape) {
    return this.#request("PUT", path, body, shape);
  }

  /** @param {string} method @param {string} path @param {object | undefined} body @param {Shape} shape */
  async #request(method, path, body, shape) {
    const token = await this.#tokenProvider.getToken();
    try {
      return await this.#exchange(method, path, body, shape, token);
    } catch (error) {
      if (!(error instanceof ChatError) || error.status !== 401) throw error;
      if (error.isForeign && !this.#tokenProvider.countForeignRefusal()) throw error;
      const fresh = await this.#tokenProvider.renew(token, "refused");
      if (!fresh) throw error;
      return this.#exchange(method, path, body, shape, fresh);
    }
  }

  /** @param {string} method @param {string} path @param {object | undefined} body @param {Shape} shape @param {string} token */
  async #exchange(method, path, body, shape, token) {
    const timeout = new ExchangeTimeout(this.#clock);
    try {
      /** @type {Record<string, string>} */
      const headers = { Accept: "application/json", Authorization: `Bearer ${token}` };
      if (body) headers["Content-Type"] = "application/json";
      const sent = body && JSON.stringify(body);
      timeout.restart(SILENCE_TIMEOUT_MS + (sent?.length ?? 0) / MIN_UPLOAD_CHARS_PER_MS);
      const fetch = this.#fetch; // not as a method: browsers want it called on `window`
      const response = await timeout.race(fetch(this.#base + path, {
        method, headers, body: sent, credentials: "omit", cache: "no-store", signal: timeout.signal,
      }));
      const text = await readText(response, timeout);
      if (!response.ok) throw errorFromResponse(response, text, this.#clock.now());
      const value = parseObject(text);
      if (value === null || !shape(value)) throw foreignError(response);
      this.#tokenProvider.markAccepted(token);
      this.onSuccess();
      return value;
    } catch (thrown) {
      const error = toChatError(thrown, "network");
      if (error.isUnauthorized) this.#tokenProvider.markRefused(token);
      throw error;
    } finally {
      timeout.cancel();
    }
  }
}

/**
 * The body, as text.
 * @param {Response} response
 * @param {ExchangeTimeout} timeout
 */
async function readText(response, timeout) {
  const reader = response.body?.getReader?.();
  if (!reader) { // a platform that does not tell of the pieces
    timeout.restart(EXCHANGE_TIMEOUT_MS);
    return timeout.race(response.text());
  }
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (;;) {
    timeout.restart(SILENCE_TIMEOUT_MS);
    const { done, value } = await timeout.race(reader.read());
    if (done) return text + decoder.decode();
    bytes += value.length;
    if (bytes > MAX_RESPONSE_BYTES) throw timeout.abort(foreignError(response));
    text += decoder.decode(value, { stream: true });
  }
}

/** How long one exchange may be silent, and last. Whatever it waits for endpointFields, even where nothing heeds the signal. */
class ExchangeTimeout {
  #clock;
  #abort = new AbortController();
  #cancel = () => {};
  #cancelTotal;
  /** @type {(error: ChatError) => void} */
  #fail = () => {};
  /** @type {Promise<never>} */
  #expired;

  /** @param {import("./types.js").Clock} clock */
  constructor(clock) {
    this.#clock = clock;
    this.#expired = new Promise((_, reject) => { this.#fail = reject; });
    this.#expired.catch(() => {});
    this.#cancelTotal = clock.after(EXCHANGE_TIMEOUT_MS, () => this.#timeOut());
  }

  get signal() {
    return this.#abort.signal;
  }

  /** From now on it may be silent for so long. @param {number} ms */
  restart(ms) {
    this.#cancel();
    this.#cancel = this.#clock.after(ms, () => this.#timeOut());
  }

  /** @template T @param {Promise<T>} step @returns {Promise<T>} */
  race(step) {
    return Promise.race([step, this.#expired]);
  }

  /** @param {ChatError} error */
  abort(error) {
    this.#fail(error);
    this.#abort.abort();
    return error;
  }

  cancel() {
    this.#cancel();
    this.#cancelTotal();
  }

  #timeOut() {
    this.abort(new ChatError("the server did not answer in time", { code: "timeout" }));
  }
}
