/**
 * The failure that an answer tells of.
 * @param {Response} answer
 * @param {string} text Its body.
 * @param {number} now Milliseconds since 1970.
 */
export function problemOf(answer: Response, text: string, now: number): ChatError;
/**
 * An answer that is not the chat server's. What it says is not passed on: it may be a page of anybody's.
 * @param {Response} answer
 * @param {number | null} [wait]
 */
export function foreign(answer: Response, wait?: number | null): ChatError;
/** @param {string} text @returns {any} The object that it is, or null. */
export function parse(text: string): any;
/**
 * Seconds, or a date (RFC 9110 §10.2.3), as milliseconds from now.
 * @param {string | null} text
 * @param {number} now
 */
export function retryAfter(text: string | null, now: number): number | null;
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
