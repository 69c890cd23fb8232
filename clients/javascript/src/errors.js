// What can go wrong, as one class: the server's problem body (RFC 9457), an answer of something in between, or a network
// that did not carry the question.

/** @typedef {{ pointer: string, detail: string }} InputError */

const RETRYABLE_STATUSES = [408, 425, 429];

export class ChatError extends Error {
  /**
   * @param {string} detail
   * @param {{ status?: number, title?: string, requestId?: string | null, errors?: InputError[], retryAfter?: number | null,
   *   code?: string, isForeign?: boolean, cause?: unknown }} [more]
   */
  constructor(detail, more = {}) {
    super(detail, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = "ChatError";
    /** HTTP status; 0 when there was no answer. */
    this.status = more.status ?? 0;
    /** What kind of failure, in a word or two. */
    this.title = more.title ?? "";
    /** Names the request in the server's logs. */
    this.requestId = more.requestId ?? null;
    /** Which field is wrong, and how. */
    this.errors = more.errors ?? [];
    /** Milliseconds that the server asks to wait, or null. */
    this.retryAfter = more.retryAfter ?? null;
    /**
     * For failures without status: `network`, `timeout`, `token`, `outbox_full`, `discarded`, `closed`; for an answer that is
     * not the chat server's: `foreign`; else the server's own code, if it gave one.
     */
    this.code = more.isForeign ? "foreign" : more.code ?? "";
    /** Whether the answer came from something between here and the chat server: a proxy, a firewall, a login page. */
    this.isForeign = more.isForeign ?? false;
    /** Which work failed, where it is tried again. @type {import("./types.js").Work | null} */
    this.work = null;
  }

  /** Whether the same question may have another answer later. */
  get retryable() {
    if (this.isForeign) return true;
    return this.status === 0 ? ["network", "timeout", "token"].includes(this.code) : RETRYABLE_STATUSES.includes(this.status) || this.status >= 500;
  }

  /** Whether the chat server itself refused the token. */
  get isUnauthorized() {
    return this.status === 401 && !this.isForeign;
  }
}

/**
 * Whatever was thrown, as one of ours.
 * @param {unknown} thrown
 * @param {string} code
 */
export function toChatError(thrown, code) {
  if (thrown instanceof ChatError) return thrown;
  return new ChatError(thrown instanceof Error ? thrown.message : String(thrown), { code, cause: thrown });
}

/**
 * Whether two failures have the same reason, as far as people would tell.
 * @param {ChatError | null} a
 * @param {ChatError | null} b
 */
export function isSameReason(a, b) {
  return a === b || (a !== null && b !== null && a.status === b.status && a.code === b.code && a.message === b.message);
}
