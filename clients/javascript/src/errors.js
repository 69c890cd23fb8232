// What can go wrong, as one class: the server's problem body (RFC 9457), or a network that did not carry the question.

/** @typedef {{ pointer: string, detail: string }} InputError */

export class ChatError extends Error {
  /**
   * @param {string} detail
   * @param {{ status?: number, title?: string, requestId?: string | null, errors?: InputError[], retryAfter?: number | null,
   *   code?: string, cause?: unknown }} [more]
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
    /** For failures without status: `network`, `timeout`, `token`, `outbox_full`, `discarded`, `closed`. */
    this.code = more.code ?? "";
  }

  /** Whether the same question may have another answer later. */
  get retryable() {
    return this.code === "network" || this.code === "timeout" || this.code === "token" || [408, 425, 429].includes(this.status) || this.status >= 500;
  }
}

/**
 * Whatever was thrown, as one of ours.
 * @param {unknown} thrown
 * @param {string} code
 */
export function asChatError(thrown, code) {
  if (thrown instanceof ChatError) return thrown;
  return new ChatError(thrown instanceof Error ? thrown.message : String(thrown), { code, cause: thrown });
}
