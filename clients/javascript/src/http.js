// Questions over HTTP: the token, a time limit, JSON, and problems as errors. One refusal of the token is answered with
// a fresh one; everything else is the caller's to try again.

import { asChatError, ChatError } from "./errors.js";

const TIMEOUT_MS = 15_000;

/** @typedef {{ [name: string]: string | number | undefined }} Query */

export class Http {
  #base;
  #fetch;
  #credentials;
  #clock;

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
   * @returns {Promise<any>}
   */
  get(path, query) {
    const pairs = Object.entries(query).filter(([, value]) => value !== undefined).map(([name, value]) => [name, String(value)]);
    return this.#ask("GET", `${path}?${new URLSearchParams(pairs)}`);
  }

  /** @param {string} path @param {object} body @returns {Promise<any>} */
  post(path, body) {
    return this.#ask("POST", path, body);
  }

  /** @param {string} path @param {object} body @returns {Promise<any>} */
  put(path, body) {
    return this.#ask("PUT", path, body);
  }

  /** @param {string} method @param {string} path @param {object} [body] */
  async #ask(method, path, body) {
    const token = await this.#credentials.current();
    try {
      return await this.#once(method, path, body, token);
    } catch (error) {
      if (!(error instanceof ChatError) || error.status !== 401) throw error;
      const fresh = await this.#credentials.renew(token, "refused");
      if (!fresh) throw error;
      return this.#once(method, path, body, fresh);
    }
  }

  /** @param {string} method @param {string} path @param {object | undefined} body @param {string} token */
  async #once(method, path, body, token) {
    const abort = new AbortController();
    const cancel = this.#clock.after(TIMEOUT_MS, () => abort.abort());
    try {
      /** @type {Record<string, string>} */
      const headers = { Accept: "application/json", Authorization: `Bearer ${token}` };
      if (body) headers["Content-Type"] = "application/json";
      const fetch = this.#fetch; // not as a method: browsers want it called on `window`
      const answer = await fetch(this.#base + path, {
        method, headers, body: body && JSON.stringify(body), credentials: "omit", cache: "no-store", signal: abort.signal,
      });
      const text = await answer.text();
      if (!answer.ok) throw problemOf(answer, text, this.#clock.now());
      return text === "" ? null : JSON.parse(text);
    } catch (error) {
      if (abort.signal.aborted) throw new ChatError("the server did not answer in time", { code: "timeout", cause: error });
      throw asChatError(error, "network");
    } finally {
      cancel();
    }
  }
}

/**
 * @param {Response} answer
 * @param {string} text
 * @param {number} now
 */
function problemOf(answer, text, now) {
  /** @type {any} */
  let body = {};
  try {
    body = JSON.parse(text) ?? {};
  } catch { /* an answer of something in between: its status says enough */ }
  return new ChatError(body.detail || answer.statusText || `HTTP status ${answer.status}`, {
    status: answer.status, title: body.title, errors: body.errors,
    requestId: body.request_id ?? answer.headers.get("X-Request-Id"),
    retryAfter: retryAfter(answer.headers.get("Retry-After"), now),
  });
}

/**
 * Seconds, or a date (RFC 9110 §10.2.3), as milliseconds from now.
 * @param {string | null} text
 * @param {number} now
 */
export function retryAfter(text, now) {
  if (text === null || text.trim() === "") return null;
  const ms = /^\d+$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), 300_000);
}
