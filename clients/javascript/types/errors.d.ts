/**
 * Whatever was thrown, as one of ours.
 * @param {unknown} thrown
 * @param {string} code
 */
export function toChatError(thrown: unknown, code: string): ChatError;
/**
 * Whether two failures have the same reason, as far as people would tell.
 * @param {ChatError | null} a
 * @param {ChatError | null} b
 */
export function isSameReason(a: ChatError | null, b: ChatError | null): boolean;
export class ChatError extends Error {
    /**
     * @param {string} detail
     * @param {{ status?: number, title?: string, requestId?: string | null, errors?: InputError[], retryAfter?: number | null,
     *   code?: string, isForeign?: boolean, cause?: unknown }} [more]
     */
    constructor(detail: string, more?: {
        status?: number;
        title?: string;
        requestId?: string | null;
        errors?: InputError[];
        retryAfter?: number | null;
        code?: string;
        isForeign?: boolean;
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
    /**
     * For failures without status: `network`, `timeout`, `token`, `outbox_full`, `discarded`, `closed`; for an answer that is
     * not the chat server's: `foreign`; else the server's own code, if it gave one.
     */
    code: string;
    /** Whether the answer came from something between here and the chat server: a proxy, a firewall, a login page. */
    isForeign: boolean;
    /** Which work failed, where it is tried again. @type {import("./types.js").Work | null} */
    work: import("./types.js").Work | null;
    /** Whether the same question may have another answer later. */
    get retryable(): boolean;
    /** Whether the chat server itself refused the token. */
    get isUnauthorized(): boolean;
}
export type InputError = {
    pointer: string;
    detail: string;
};
