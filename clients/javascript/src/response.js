// What came back over HTTP: whether it is the chat server's at all, and what it says. A proxy, a firewall or a hotel's login
// page may response in the server's place, with any status. Such an response says nothing about the request, which is tried again.

import { ChatError } from "./errors.js";

const MAX_RETRY_AFTER_MS = 300_000; // that a server may ask for
const MAX_FOREIGN_RETRY_AFTER_MS = 60_000;

/**
 * The failure that an response tells of.
 * @param {Response} response
 * @param {string} text Its body.
 * @param {number} now Milliseconds since 1970.
 */
export function errorFromResponse(response, text, now) {
  const body = isProblem(response) ? parseObject(text) : null;
  const isOwn = body !== null && body.status === response.status && typeof body.title === "string"
    && typeof body.request_id === "string" && body.request_id !== "";
  // The server's own clock, where it can be read: this machine's may be wrong.
  const wait = parseRetryAfter(response.headers.get("Retry-After"), Date.parse(response.headers.get("Date") ?? "") || now);
  if (!isOwn) return foreignError(response, wait === null ? null : Math.min(wait, MAX_FOREIGN_RETRY_AFTER_MS));
  return new ChatError(typeof body.detail === "string" && body.detail !== "" ? body.detail : body.title, {
    status: response.status, title: body.title, errors: Array.isArray(body.errors) ? body.errors : [], requestId: body.request_id,
    retryAfter: wait, code: typeof body.code === "string" ? body.code : "",
  });
}

/**
 * An response that is not the chat server's. What it says is not passed on: it may be a page of anybody's.
 * @param {Response} response
 * @param {number | null} [wait]
 */
export function foreignError(response, wait = null) {
  return new ChatError(`something between here and the chat server answered in its place (HTTP status ${response.status})`, {
    status: response.status, title: response.statusText, retryAfter: wait, isForeign: true,
  });
}

/** @param {string} text @returns {any} The object that it is, or null. */
export function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/**
 * Seconds, or a date (RFC 9110 §10.2.3), as milliseconds from now.
 * @param {string | null} text
 * @param {number} now
 */
export function parseRetryAfter(text, now) {
  if (text === null || text.trim() === "") return null;
  const ms = /^\d+$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

// What each question must get, so that a page of something in between is not taken for it.
/** @typedef {(body: any) => boolean} Shape */

/** @type {Shape} */
export const isMessage = (body) => typeof body.id === "string" && Number.isSafeInteger(body.seq) && body.seq > 0 && typeof body.content === "string";
/** @type {Shape} */
export const isHistory = (body) => Array.isArray(body.messages) && typeof body.has_more === "boolean" && body.messages.every((/** @type {any} */ one) => one && isMessage(one));
/** @type {Shape} */
export const isInbox = (body) => Array.isArray(body.conversations) && body.conversations.every((/** @type {any} */ one) => one?.last_message && typeof one.conversation_id === "string");
/** @type {Shape} */
export const isMarks = (body) => Array.isArray(body.marked);
/** @type {Shape} */
export const isPresence = (body) => Array.isArray(body.participants);

/** @param {Response} response */
function isProblem(response) {
  return /^application\/problem\+json\s*(;|$)/i.test(response.headers.get("Content-Type") ?? "");
}
