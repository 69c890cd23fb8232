// `ChatError`: the one error class of the SDK. It stands for a problem body of the server (RFC 9457), for a response of an
// intermediary, and for a request that got no response.

/** @typedef {{ pointer: string, detail: string }} InputError */
/**
 * The `code` of a problem. docs/api/http.md of the server says what each means.
 * @typedef {"malformed" | "malformed_request" | "malformed_query" | "repeated_parameter" | "repeated_header" | "invalid_host" |
 *   "invalid_handshake" | "token_missing" | "token_malformed" | "token_unsupported" | "token_key_unknown" |
 *   "token_signature_invalid" | "token_expired" | "token_revoked" | "token_not_yet_valid" | "token_claim_missing" |
 *   "token_claim_invalid" | "ticket_invalid" | "forbidden" | "admin_required" | "origin_not_allowed" | "not_found" |
 *   "method_not_allowed" | "request_timeout" | "client_message_id_reused" | "body_too_large" | "uri_too_long" |
 *   "unsupported_media_type" | "unsupported_encoding" | "missing_field" | "missing_parameter" | "unknown_field" |
 *   "unknown_parameter" | "conflicting_fields" | "conflicting_parameters" | "invalid_type" | "invalid_identifier" |
 *   "invalid_uuid" | "invalid_time" | "invalid_cursor" | "out_of_range" | "invalid_value" | "content_empty" |
 *   "content_too_long" | "content_invalid" | "contact_to_contact" | "same_participant" | "invalid_input" | "upgrade_required" |
 *   "websocket_version_unsupported" | "rate_limited" | "responses_unread" | "head_too_large" | "internal_error" |
 *   "bad_gateway" | "overloaded" | "deadline_exceeded" | "starting" | "shutting_down" | "database_unavailable" |
 *   "database_incompatible" | "conversation_busy" | "tickets_unavailable" | "presence_unavailable" | "relay_unavailable" |
 *   "no_server_available" | "gateway_timeout"} ProblemCode
 */
/**
 * The codes that only sockets have: of `error` frames, and of closed connections.
 * @typedef {"unknown_type" | "conversation_required" | "protocol_error" | "invalid_utf8" | "frame_too_large" |
 *   "client_too_slow" | "client_silent" | "too_many_sockets"} SocketCode
 */
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
 * @typedef {"invalid_argument" | "network" | "timeout" | "websocket_blocked" | "origin_blocked" | "token" | "foreign" |
 *   "outbox_full" | "discarded" | "storage" | "closed"} SdkCode
 */
/**
 * What a program compares. A newer server may have more codes. It is empty if there is none.
 * @typedef {ProblemCode | SocketCode | SdkCode | (string & {})} ErrorCode
 */

const RETRYABLE_STATUSES = [408, 425, 429];
// The reasons of close frames. Those of an ended token begin with `token_`.
const CLOSE_REASONS = ["shutting_down", "protocol_error", "invalid_utf8", "rate_limited", "frame_too_large", "client_too_slow",
  "client_silent", "too_many_sockets"];
const RETRYABLE_CODES = ["network", "timeout", "token", "websocket_blocked", "origin_blocked", ...CLOSE_REASONS];

export class ChatError extends Error {
  /**
   * @param {string} detail
   * @param {{ status?: number, title?: string, requestId?: string | null, errors?: InputError[], retryAfter?: number | null,
   *   code?: ErrorCode, isForeign?: boolean, cause?: unknown }} [more]
   */
  constructor(detail, more = {}) {
    super(detail, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = "ChatError";
    /** HTTP status; 0 without a response. */
    this.status = more.status ?? 0;
    /** The kind of failure, in a word or two. */
    this.title = more.title ?? "";
    /** Identifies the request in the server's logs. */
    this.requestId = more.requestId ?? null;
    /** The wrong fields, each with what is wrong. */
    this.errors = more.errors ?? [];
    /** Milliseconds that the server asks to wait, or null. */
    this.retryAfter = more.retryAfter ?? null;
    /** The cause: the server's code of the problem, of the `error` frame or of the close frame, or one of the SDK. @type {ErrorCode} */
    this.code = more.isForeign ? "foreign" : more.code ?? "";
    /** Whether an intermediary sent the response: a proxy, a firewall, a login page. */
    this.isForeign = more.isForeign ?? false;
    /** The work that failed, where the SDK retries it. @type {import("./types.js").Work | null} */
    this.work = null;
  }

  /** Whether the same request may succeed later. */
  get retryable() {
    if (this.isForeign) return true;
    if (this.status === 0) return RETRYABLE_CODES.includes(this.code) || isTokenCode(this.code);
    return RETRYABLE_STATUSES.includes(this.status) || this.status >= 500;
  }

  /** Whether the chat server itself refused the token. */
  get isUnauthorized() {
    return this.status === 401 && !this.isForeign;
  }
}

/** Whether a code of the server names what is wrong with a token. @param {unknown} code */
function isTokenCode(code) {
  return typeof code === "string" && code.startsWith("token_");
}

/**
 * The code for a connection that the server closed. An intermediary may give any reason.
 * @param {string} reason
 * @returns {ErrorCode}
 */
export function codeOfClose(reason) {
  return CLOSE_REASONS.includes(reason) || isTokenCode(reason) ? reason : "network";
}

/**
 * Any thrown value as a `ChatError`.
 * @param {unknown} thrown
 * @param {ErrorCode} code
 */
export function toChatError(thrown, code) {
  if (thrown instanceof ChatError) return thrown;
  return new ChatError(thrown instanceof Error ? thrown.message : String(thrown), { code, cause: thrown });
}

/** A caller passed what the SDK cannot use. @param {string} message */
export function invalidArgument(message) {
  return new ChatError(message, { code: "invalid_argument" });
}

/** A rejected promise that the caller may ignore. @param {ChatError} error @returns {Promise<never>} */
export function rejectedPromise(error) {
  const promise = Promise.reject(error);
  promise.catch(() => {});
  return promise;
}

/**
 * Whether two failures have the same reason. Request ids and delays do not count.
 * @param {ChatError | null} a
 * @param {ChatError | null} b
 */
export function isSameReason(a, b) {
  return a === b || (a !== null && b !== null && a.status === b.status && a.code === b.code && a.message === b.message);
}
