// Marks a message as read when its end was in view for 600 ms on a visible page. Of a folded message the reader has not seen all, so it
// stays unread until it is unfolded.

/** @typedef {import("ehr-chat-client").Message} Message */
/** @typedef {import("./message-row.js").MessageRow} MessageRow */

const READ_AFTER_MS = 600;

export class ReadMarker {
  #markRead;
  /** @type {Map<Element, MessageRow>} */
  #rows = new Map();
  /** @type {Set<Element>} */
  #inView = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer = undefined;
  #observer;
  #onVisibilityChange = () => this.schedule();

  /** @param {(messages: Message[]) => void} markRead */
  constructor(markRead) {
    this.#markRead = markRead;
    // Without a root, what the page itself scrolled out of view counts as not seen.
    this.#observer = new IntersectionObserver((changes) => this.#onChange(changes));
    document.addEventListener("visibilitychange", this.#onVisibilityChange);
  }

  /** @param {MessageRow} row */
  add(row) {
    if (row.message.mine || row.message.read_at !== null) return;
    this.#rows.set(row.end, row);
    this.#observer.observe(row.end);
  }

  /** @param {MessageRow} row */
  remove(row) {
    if (!this.#rows.delete(row.end)) return;
    this.#observer.unobserve(row.end);
    this.#inView.delete(row.end);
  }

  /** Looks again after the wait: something changed. */
  schedule() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#mark(), READ_AFTER_MS);
  }

  close() {
    clearTimeout(this.#timer);
    this.#observer.disconnect();
    document.removeEventListener("visibilitychange", this.#onVisibilityChange);
  }

  /** @param {IntersectionObserverEntry[]} changes */
  #onChange(changes) {
    for (const { target, isIntersecting } of changes) {
      if (isIntersecting) this.#inView.add(target);
      else this.#inView.delete(target);
    }
    this.schedule();
  }

  #mark() {
    if (document.visibilityState !== "visible") return;
    const rows = [...this.#inView].flatMap((end) => this.#rows.get(end) ?? []);
    for (const row of rows) if (row.message.read_at !== null) this.remove(row);
    const unread = rows.filter(({ isFolded, message }) => !isFolded && message.read_at === null).map(({ message }) => message);
    if (unread.length > 0) this.#markRead(unread);
  }
}
