// HTTP requests: the token, time limits, JSON, and errors. A refused token is replaced once within the request. The caller retries
// all other failures.
//
// The limits are on silence, not on size. A slow line delivers a long page in the end. Only a response that would take forever ends
// early.

import { ChatError, toChatError } from "../errors.js";
import { EXCHANGE_TIMEOUT_MS, ExchangeTimeout } from "./exchange-timeout.js";
import { errorFromResponse, foreignError, parseObject } from "./response.js";

const SILENCE_TIMEOUT_MS = 15_000; // before the response, and between two parts of it
const MIN_UPLOAD_CHARS_PER_MS = 1; // platforms do not report the progress of an upload
const MAX_RESPONSE_BYTES = 32 * 1024 * 1024;

/** @typedef {{ [name: string]: string | number | undefined }} Query */
/** @typedef {import("./shapes.js").Shape} Shape */

export class HttpClient {
  #base;
  #fetch;
  #tokenProvider;
  #clock;
  #network;
  /** Called after each successful response. @type {() => void} */
  onSuccess = () => {};

  /**
   * @param {string} base
   * @param {(input: string, init: RequestInit) => Promise<Response>} fetch
   * @param {import("../auth/token-provider.js").TokenProvider} tokenProvider
   * @param {import("../time/clock.js").FullClock} clock
   * @param {import("../connection/network.js").Network} network
   */
  constructor(base, fetch, tokenProvider, clock, network) {
    this.#base = base;
    this.#fetch = fetch;
    this.#tokenProvider = tokenProvider;
    this.#clock = clock;
    this.#network = network;
  }

  /**
   * @param {string} path
   * @param {Query} query
   * @param {Shape} shape What the response must be.
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
    const startedAt = this.#clock.elapsed();
    let hasResponse = false;
    try {
      const response = await this.#send(method, path, body, token, timeout);
      hasResponse = true;
      this.#network.recordResponse();
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
      if (!hasResponse) this.#network.recordFailure(error, startedAt, () => this.#reach());
      throw error;
    } finally {
      timeout.cancel();
    }
  }

  /** A request that gets a response even if the server does not accept the page's origin. The page cannot read the response. */
  async #reach() {
    const timeout = new ExchangeTimeout(this.#clock);
    try {
      timeout.restart(SILENCE_TIMEOUT_MS);
      const fetch = this.#fetch;
      await timeout.race(fetch(`${this.#base}/healthz`, { mode: "no-cors", credentials: "omit", cache: "no-store", signal: timeout.signal }));
    } finally {
      timeout.cancel();
    }
  }

  /** @param {string} method @param {string} path @param {object | undefined} body @param {string} token @param {ExchangeTimeout} timeout */
  #send(method, path, body, token, timeout) {
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json", Authorization: `Bearer ${token}` };
    if (body) headers["Content-Type"] = "application/json";
    const text = body && JSON.stringify(body);
    timeout.restart(SILENCE_TIMEOUT_MS + (text?.length ?? 0) / MIN_UPLOAD_CHARS_PER_MS);
    const fetch = this.#fetch; // browsers throw when `fetch` is called as a method of another object
    return timeout.race(fetch(this.#base + path, {
      method, headers, body: text, credentials: "omit", cache: "no-store", signal: timeout.signal,
    }));
  }
}

/**
 * The body of a response, as text.
 * @param {Response} response
 * @param {ExchangeTimeout} timeout
 */
async function readText(response, timeout) {
  const reader = response.body?.getReader?.();
  if (!reader) { // the platform does not stream, so silence and a slow line look the same
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
