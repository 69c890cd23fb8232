// Turns HTTP responses into errors. A proxy, a firewall or a login page may respond in the server's place, with any status. Such
// a response says nothing about the request, so the SDK retries it.

import { ChatError } from "../errors.js";

const MAX_RETRY_AFTER_MS = 300_000;
const MAX_FOREIGN_RETRY_AFTER_MS = 60_000;

/**
 * The error that a response stands for.
 * @param {Response} response
 * @param {string} text Its body.
 * @param {number} now Milliseconds since 1970.
 */
export function errorFromResponse(response, text, now) {
  const body = isProblem(response) ? parseObject(text) : null;
  const isFromServer = body !== null && body.status === response.status && typeof body.title === "string"
    && typeof body.request_id === "string" && body.request_id !== "";
  // The `Date` of the response is the server's clock. The clock of this machine may be wrong.
  const waitMs = parseRetryAfter(response.headers.get("Retry-After"), Date.parse(response.headers.get("Date") ?? "") || now);
  if (!isFromServer) return foreignError(response, waitMs === null ? null : Math.min(waitMs, MAX_FOREIGN_RETRY_AFTER_MS));
  return new ChatError(typeof body.detail === "string" && body.detail !== "" ? body.detail : body.title, {
    status: response.status, title: body.title, errors: Array.isArray(body.errors) ? body.errors : [], requestId: body.request_id,
    retryAfter: waitMs, code: typeof body.code === "string" ? body.code : "",
  });
}

/**
 * The error for a response of an intermediary. It does not repeat the body, whose author is unknown.
 * @param {Response} response
 * @param {number | null} [waitMs]
 */
export function foreignError(response, waitMs = null) {
  return new ChatError(`an intermediary responded in place of the chat server (HTTP status ${response.status})`, {
    status: response.status, title: response.statusText, retryAfter: waitMs, isForeign: true,
  });
}

/** @param {string} text @returns {any} The JSON object, or null. */
export function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/**
 * `Retry-After` (RFC 9110 §10.2.3), seconds or a date, as milliseconds from now; null if it is missing or invalid.
 * @param {string | null} text
 * @param {number} now
 */
export function parseRetryAfter(text, now) {
  if (text === null || text.trim() === "") return null;
  const ms = /^\d+$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

/** @param {Response} response */
function isProblem(response) {
  return /^application\/problem\+json\s*(;|$)/i.test(response.headers.get("Content-Type") ?? "");
}
