// `ChatError`: the one error class of the SDK. It stands for a problem body of the server (RFC 9457), for a response of an
// intermediary, and for a request that got no response.

/** @typedef {{ pointer: string, detail: string }} InputError */

const RETRYABLE_STATUSES = [408, 425, 429];
const RETRYABLE_CODES = ["network", "timeout", "token", "websocket_blocked", "origin_blocked"];

export class ChatError extends Error {
  /**
   * @param {string} detail
   * @param {{ status?: number, title?: string, requestId?: string | null, errors?: InputError[], retryAfter?: number | null,
   *   code?: string, isForeign?: boolean, cause?: unknown }} [more]
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
    /**
     * For failures without status: `invalid_argument`, `network`, `timeout`, `websocket_blocked`, `origin_blocked`, `token`, `outbox_full`,
     * `discarded`, `storage`, `closed`. For a response that is not the chat server's: `foreign`. Otherwise the server's own code, if it
     * gave one.
     */
    this.code = more.isForeign ? "foreign" : more.code ?? "";
    /** Whether an intermediary sent the response: a proxy, a firewall, a login page. */
    this.isForeign = more.isForeign ?? false;
    /** The work that failed, where the SDK retries it. @type {import("./types.js").Work | null} */
    this.work = null;
  }

  /** Whether the same request may succeed later. */
  get retryable() {
    if (this.isForeign) return true;
    if (this.status === 0) return RETRYABLE_CODES.includes(this.code);
    return RETRYABLE_STATUSES.includes(this.status) || this.status >= 500;
  }

  /** Whether the chat server itself refused the token. */
  get isUnauthorized() {
    return this.status === 401 && !this.isForeign;
  }
}

/**
 * Any thrown value as a `ChatError`.
 * @param {unknown} thrown
 * @param {string} code
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
