/**
 * Any thrown value as a `ChatError`.
 * @param {unknown} thrown
 * @param {string} code
 */
export function toChatError(thrown: unknown, code: string): ChatError;
/** A caller passed what the SDK cannot use. @param {string} message */
export function invalidArgument(message: string): ChatError;
/** A rejected promise that the caller may ignore. @param {ChatError} error @returns {Promise<never>} */
export function rejectedPromise(error: ChatError): Promise<never>;
/**
 * Whether two failures have the same reason. Request ids and delays do not count.
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
    /** HTTP status; 0 without a response. */
    status: number;
    /** The kind of failure, in a word or two. */
    title: string;
    /** Identifies the request in the server's logs. */
    requestId: string | null;
    /** The wrong fields, each with what is wrong. */
    errors: InputError[];
    /** Milliseconds that the server asks to wait, or null. */
    retryAfter: number | null;
    /**
     * For failures without status: `invalid_argument`, `network`, `timeout`, `websocket_blocked`, `origin_blocked`, `token`, `outbox_full`,
     * `discarded`, `storage`, `closed`. For a response that is not the chat server's: `foreign`. Otherwise the server's own code, if it
     * gave one.
     */
    code: string;
    /** Whether an intermediary sent the response: a proxy, a firewall, a login page. */
    isForeign: boolean;
    /** The work that failed, where the SDK retries it. @type {import("./types.js").Work | null} */
    work: import("./types.js").Work | null;
    /** Whether the same request may succeed later. */
    get retryable(): boolean;
    /** Whether the chat server itself refused the token. */
    get isUnauthorized(): boolean;
}
export type InputError = {
    pointer: string;
    detail: string;
};
