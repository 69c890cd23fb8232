/**
 * The error that a response stands for.
 * @param {Response} response
 * @param {string} text Its body.
 * @param {number} now Milliseconds since 1970.
 */
export function errorFromResponse(response: Response, text: string, now: number): ChatError;
/**
 * The error for a response of an intermediary. It does not repeat the body, whose author is unknown.
 * @param {Response} response
 * @param {number | null} [waitMs]
 */
export function foreignError(response: Response, waitMs?: number | null): ChatError;
/** @param {string} text @returns {any} The JSON object, or null. */
export function parseObject(text: string): any;
/**
 * `Retry-After` (RFC 9110 §10.2.3), seconds or a date, as milliseconds from now; null if it is missing or invalid.
 * @param {string | null} text
 * @param {number} now
 */
export function parseRetryAfter(text: string | null, now: number): number | null;
import { ChatError } from "../errors.js";
