/**
 * Whatever was thrown, as one of ours.
 * @param {unknown} thrown
 * @param {string} code
 */
export function asChatError(thrown: unknown, code: string): ChatError;
/** @typedef {{ pointer: string, detail: string }} InputError */
export class ChatError extends Error {
    /**
     * @param {string} detail
     * @param {{ status?: number, title?: string, requestId?: string | null, errors?: InputError[], retryAfter?: number | null,
     *   code?: string, cause?: unknown }} [more]
     */
    constructor(detail: string, more?: {
        status?: number;
        title?: string;
        requestId?: string | null;
        errors?: InputError[];
        retryAfter?: number | null;
        code?: string;
        cause?: unknown;
    });
    /** HTTP status; 0 when there was no answer. */
    status: number;
    /** What kind of failure, in a word or two. */
    title: string;
    /** Names the request in the server's logs. */
    requestId: string | null;
    /** Which field is wrong, and how. */
    errors: InputError[];
    /** Milliseconds that the server asks to wait, or null. */
    retryAfter: number | null;
    /** For failures without status: `network`, `timeout`, `token`, `outbox_full`, `discarded`, `closed`. */
    code: string;
    /** Whether the same question may have another answer later. */
    get retryable(): boolean;
}
export type InputError = {
    pointer: string;
    detail: string;
};
