/**
 * The failure that an response tells of.
 * @param {Response} response
 * @param {string} text Its body.
 * @param {number} now Milliseconds since 1970.
 */
export function errorFromResponse(response: Response, text: string, now: number): ChatError;
/**
 * An response that is not the chat server's. What it says is not passed on: it may be a page of anybody's.
 * @param {Response} response
 * @param {number | null} [wait]
 */
export function foreignError(response: Response, wait?: number | null): ChatError;
/** @param {string} text @returns {any} The object that it is, or null. */
export function parseObject(text: string): any;
/**
 * Seconds, or a date (RFC 9110 §10.2.3), as milliseconds from now.
 * @param {string | null} text
 * @param {number} now
 */
export function parseRetryAfter(text: string | null, now: number): number | null;
/** @typedef {(body: any) => boolean} Shape */
/** @type {Shape} */
export const isMessage: Shape;
/** @type {Shape} */
export const isHistory: Shape;
/** @type {Shape} */
export const isInbox: Shape;
/** @type {Shape} */
export const isMarks: Shape;
/** @type {Shape} */
export const isPresence: Shape;
export type Shape = (body: any) => boolean;
import { ChatError } from "./errors.js";
