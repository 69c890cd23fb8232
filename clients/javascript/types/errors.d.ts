/**
 * The code for a connection that the server closed. An intermediary may give any reason.
 * @param {string} reason
 * @returns {ErrorCode}
 */
export function codeOfClose(reason: string): ErrorCode;
/**
 * Any thrown value as a `ChatError`.
 * @param {unknown} thrown
 * @param {ErrorCode} code
 */
export function toChatError(thrown: unknown, code: ErrorCode): ChatError;
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
     *   code?: ErrorCode, isForeign?: boolean, cause?: unknown }} [more]
     */
    constructor(detail: string, more?: {
        status?: number;
        title?: string;
        requestId?: string | null;
        errors?: InputError[];
        retryAfter?: number | null;
        code?: ErrorCode;
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
    /** The cause: the server's code of the problem, of the `error` frame or of the close frame, or one of the SDK. @type {ErrorCode} */
    code: ErrorCode;
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
/**
 * The `code` of a problem. docs/api/http.md of the server says what each means.
 */
export type ProblemCode = "malformed" | "malformed_request" | "malformed_query" | "repeated_parameter" | "repeated_header" | "invalid_host" | "invalid_handshake" | "token_missing" | "token_malformed" | "token_unsupported" | "token_key_unknown" | "token_signature_invalid" | "token_expired" | "token_revoked" | "token_not_yet_valid" | "token_claim_missing" | "token_claim_invalid" | "ticket_invalid" | "forbidden" | "admin_required" | "origin_not_allowed" | "not_found" | "method_not_allowed" | "request_timeout" | "client_message_id_reused" | "body_too_large" | "uri_too_long" | "unsupported_media_type" | "unsupported_encoding" | "missing_field" | "missing_parameter" | "unknown_field" | "unknown_parameter" | "conflicting_fields" | "conflicting_parameters" | "invalid_type" | "invalid_identifier" | "invalid_uuid" | "invalid_time" | "invalid_cursor" | "out_of_range" | "invalid_value" | "content_empty" | "content_too_long" | "content_invalid" | "contact_to_contact" | "same_participant" | "invalid_input" | "upgrade_required" | "websocket_version_unsupported" | "rate_limited" | "responses_unread" | "head_too_large" | "internal_error" | "bad_gateway" | "overloaded" | "deadline_exceeded" | "starting" | "shutting_down" | "database_unavailable" | "database_incompatible" | "conversation_busy" | "tickets_unavailable" | "presence_unavailable" | "relay_unavailable" | "no_server_available" | "gateway_timeout";
/**
 * The codes that only sockets have: of `error` frames, and of closed connections.
 */
export type SocketCode = "unknown_type" | "conversation_required" | "protocol_error" | "invalid_utf8" | "frame_too_large" | "client_too_slow" | "client_silent" | "too_many_sockets";
/**
 * The codes of the SDK itself.
 * - `invalid_argument`: a caller passed what the SDK cannot use.
 * - `network`, `timeout`: there was no response, or not in time.
 * - `websocket_blocked`, `origin_blocked`: a proxy or a rule of the server lets no socket, or no request, pass.
 * - `token`: the token source gave no token that can be used.
 * - `foreign`: an intermediary responded in place of the server.
 * - `outbox_full`, `discarded`: the message is not sent.
 * - `storage`: drafts cannot be stored.
 * - `closed`: the chat or the conversation was closed.
 */
export type SdkCode = "invalid_argument" | "network" | "timeout" | "websocket_blocked" | "origin_blocked" | "token" | "foreign" | "outbox_full" | "discarded" | "storage" | "closed";
/**
 * What a program compares. A newer server may have more codes. It is empty if there is none.
 */
export type ErrorCode = ProblemCode | SocketCode | SdkCode | (string & {});
