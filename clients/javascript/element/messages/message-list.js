// The scrolling list of messages. It renders a window of the rows, keeps what the reader sees in its place while rows appear above it,
// and follows the newest message while the reader is at the end.

import { h, reconcileChildren } from "../dom.js";
import { MessageRow } from "./message-row.js";
import { RowHeights } from "./row-heights.js";
import { estimateHeight, Rows } from "./rows.js";
import { computeWindow, suffices } from "./window.js";

/** @typedef {import("ehr-chat-client").Message} Message */
/** @typedef {import("./rows.js").Row} Row */

const END_DISTANCE_PX = 60; // a view so close to the end follows new messages
const UNREAD_MARGIN_PX = 16;

/**
 * A row that stays in its place: `edge` is its top or bottom, `at` that edge's distance from the top of the view.
 * @typedef {{ key: string, edge: "top" | "bottom", at: number }} Anchor
 */

/**
 * @typedef {object} Owner
 * @property {() => void} onScroll The reader scrolled, or other rows are rendered.
 * @property {(row: MessageRow) => void} onRowAdded
 * @property {(row: MessageRow) => void} onRowRemoved
 */

export class MessageList {
  #owner;
  #rowOwner;
  #rows = new Rows();
  #heights = new RowHeights();
  /** Of rows that were rendered once. @type {Map<string, number>} */
  #measured = new Map();
  #window = { first: 0, last: 0 };
  /** @type {Map<string, MessageRow>} */
  #views = new Map();
  #above = h("div", { class: "spacer" });
  #below = h("div", { class: "spacer" });
  #list;
  /** The space above the rendered rows is so much larger than the heights say. It saves moving the scroll position while it moves. */
  #drift = 0;
  #width = 0;
  #offsetTop = 0;
  #height = 0; // 0 while the list is hidden
  /** Where the reader was when the list was last in view. @type {Anchor | null} */
  #lastAnchor = null;
  #conversationSize = 0;
  #resizes;

  /**
   * @param {import("./message-row.js").Owner} rowOwner
   * @param {Owner} owner
   * @param {readonly Element[]} before What stands above the rows.
   * @param {readonly Element[]} after What stands below the rows.
   */
  constructor(rowOwner, owner, before, after) {
    this.#rowOwner = rowOwner;
    this.#owner = owner;
    this.#list = h("div", { class: "rows" }, this.#above, this.#below);
    // New messages are announced by another element: here rows appear whenever the reader scrolls.
    this.element = h("div", { class: "messages", part: "messages", role: "log", "aria-live": "off", tabindex: 0, onscroll: () => this.#onScroll() },
      ...before, this.#list, ...after);
    /** Whether the list follows new messages. */
    this.isAtEnd = true;
    this.#resizes = new ResizeObserver(() => this.#onResize());
    this.#resizes.observe(this.element);
  }

  close() {
    this.#resizes.disconnect();
  }

  /** The rendered rows. */
  get views() {
    return this.#views.values();
  }

  /**
   * Shows these messages.
   * @param {readonly Message[]} messages
   * @param {number | null} firstUnreadSeq The first message behind the line of new messages.
   */
  update(messages, firstUnreadSeq) {
    if (this.element.clientHeight > 0) this.isAtEnd = this.#measureIsAtEnd(); // browsers report a scroll later than a message arrives
    // The bottom of a row is that of its message. Its top may be a heading, which moves to another row when older ones come.
    const anchor = this.isAtEnd ? null : this.#findAnchor("bottom");
    const rows = this.#rows.update(messages, firstUnreadSeq);
    if (this.#measured.size > 2 * rows.length + 100) this.#forgetHeights();
    this.#heights.replace(rows.map((row) => this.#measured.get(row.key) ?? estimateHeight(row, this.#width)));
    this.#moveTo(anchor);
  }

  /** Shows texts that changed without the messages: names and the headings of days. */
  refreshTexts() {
    for (const view of this.#views.values()) view.refreshTexts();
  }

  /** The number of messages in the conversation, for screen readers. @param {number} size */
  setConversationSize(size) {
    if (size === this.#conversationSize) return;
    this.#conversationSize = size;
    for (const view of this.#views.values()) view.setConversationSize(size);
  }

  scrollToEnd() {
    this.#moveTo(null);
  }

  /** Scrolls to the line of new messages, or to the oldest message without one. */
  scrollToUnread() {
    const { list } = this.#rows;
    const row = list.find(({ startsUnread }) => startsUnread) ?? list[0];
    if (!row) return;
    this.#offsetTop = this.#measureOffsetTop();
    this.#moveTo({ key: row.key, edge: "top", at: UNREAD_MARGIN_PX });
  }

  /** Whether the reader is near the oldest row. */
  get isNearStart() {
    return this.element.scrollTop < this.element.clientHeight;
  }

  /** The rows in view. */
  get visible() {
    return this.#getVisible(this.element.scrollTop - this.#getRowsTop(), this.element.clientHeight);
  }

  /** Where the list begins in the view. */
  #measureOffsetTop() {
    return this.element.parentElement?.offsetTop ?? 0;
  }

  #measureIsAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < END_DISTANCE_PX;
  }

  /** Where the first row begins in the scrolled content. */
  #getRowsTop() {
    return this.#list.offsetTop + this.#drift;
  }

  /** The first row in view. @param {"top" | "bottom"} edge @returns {Anchor | null} */
  #findAnchor(edge) {
    const { list } = this.#rows;
    if (list.length === 0) return null;
    const start = this.element.scrollTop - this.#getRowsTop();
    const index = this.#heights.indexAt(start);
    return { key: list[index].key, edge, at: this.#heights.offsetOf(index + (edge === "bottom" ? 1 : 0)) - start };
  }

  /** Renders the rows around an anchor, or around the end without one, and moves the view there. @param {Anchor | null} anchor */
  #moveTo(anchor) {
    const { list } = this.#rows;
    const index = anchor ? list.findIndex(({ key }) => key === anchor.key) : -1;
    this.#drift = 0;
    // Rendered rows get their real heights, which can bring others into view.
    for (let round = 0; round < 3; round++) {
      const { clientHeight } = this.element;
      const edge = anchor && index >= 0 ? this.#heights.offsetOf(index + (anchor.edge === "bottom" ? 1 : 0)) : 0;
      const start = anchor && index >= 0 ? edge - anchor.at : this.#heights.total - clientHeight;
      const isStable = this.#render(computeWindow(this.#getVisible(start, clientHeight), list.length));
      if (isStable) break;
    }
    if (anchor && index >= 0) {
      const edge = this.#heights.offsetOf(index + (anchor.edge === "bottom" ? 1 : 0));
      this.#setScrollTop(this.#getRowsTop() + edge - anchor.at);
      this.isAtEnd = this.#measureIsAtEnd();
    } else if (!anchor) {
      this.#setScrollTop(this.element.scrollHeight);
      this.isAtEnd = true;
    }
    this.#afterScroll();
  }

  /** @param {number} start In the rows. @param {number} height */
  #getVisible(start, height) {
    return { first: this.#heights.indexAt(start), last: Math.min(this.#heights.indexAt(start + height) + 1, this.#heights.count) };
  }

  /** Renders these rows and measures them. @param {import("./window.js").Range} range @returns {boolean} Whether all heights were known. */
  #render(range) {
    const rows = this.#rows.list.slice(range.first, range.last);
    const keys = new Set(rows.map(({ key }) => key));
    for (const [key, view] of this.#views) if (!keys.has(key)) this.#removeView(key, view);
    const elements = rows.map((row) => this.#getView(row).element);
    reconcileChildren(this.#list, [this.#above, ...elements, this.#below]);
    this.#window = range;
    const isStable = this.#measure();
    this.#setSpacers();
    return isStable;
  }

  /** @param {Row} row */
  #getView(row) {
    let view = this.#views.get(row.key);
    if (view) view.update(row);
    else {
      view = new MessageRow(row, this.#rowOwner);
      view.setConversationSize(this.#conversationSize);
      this.#views.set(row.key, view);
      this.#resizes.observe(view.element);
      this.#owner.onRowAdded(view);
    }
    return view;
  }

  /** @param {string} key @param {MessageRow} view */
  #removeView(key, view) {
    const root = /** @type {ShadowRoot | Document} */ (this.element.getRootNode());
    if (root.activeElement && view.element.contains(root.activeElement)) this.element.focus({ preventScroll: true });
    this.#resizes.unobserve(view.element);
    this.#views.delete(key);
    this.#owner.onRowRemoved(view);
  }

  /** Takes the heights of the rendered rows. @returns {boolean} Whether they were known. */
  #measure() {
    if (this.element.clientHeight === 0) return true; // hidden: it is measured when it appears
    this.#width = this.element.clientWidth;
    let isStable = true;
    for (let index = this.#window.first; index < this.#window.last; index++) {
      const { key } = this.#rows.list[index];
      const height = this.#views.get(key)?.element.getBoundingClientRect().height ?? 0;
      if (this.#measured.get(key) === height) continue;
      isStable = false;
      this.#measured.set(key, height);
      this.#heights.set(index, height);
    }
    return isStable;
  }

  #setSpacers() {
    const { first, last } = this.#window;
    this.#above.style.height = `${this.#heights.offsetOf(first) + this.#drift}px`;
    this.#below.style.height = `${this.#heights.total - this.#heights.offsetOf(last)}px`;
  }

  /** @param {number} position */
  #setScrollTop(position) {
    if (Math.abs(this.element.scrollTop - position) >= 1) this.element.scrollTop = position;
  }

  #onScroll() {
    const { scrollTop, clientHeight } = this.element;
    if (clientHeight === 0) return; // hiding an element scrolls it to its start
    this.isAtEnd = this.#measureIsAtEnd();
    const { list } = this.#rows;
    const visible = this.#getVisible(scrollTop - this.#getRowsTop(), clientHeight);
    if (!suffices(this.#window, visible, list.length)) this.#shiftWindow(visible);
    this.#afterScroll();
  }

  #afterScroll() {
    if (this.element.clientHeight > 0) this.#lastAnchor = this.#findAnchor("top");
    this.#owner.onScroll();
  }

  /** Renders other rows while the view moves, without moving the scroll position: that would end the movement in some browsers. @param {import("./window.js").Range} visible */
  #shiftWindow(visible) {
    const anchor = this.#findAnchor("top");
    if (!anchor) return;
    const range = computeWindow(visible, this.#rows.list.length);
    this.#render(range);
    const index = visible.first;
    const moved = this.#getRowsTop() + this.#heights.offsetOf(index) - this.element.scrollTop - anchor.at;
    this.#drift -= moved;
    const hasNoSpace = range.first === 0 || this.#heights.offsetOf(range.first) + this.#drift < 0;
    const correction = hasNoSpace ? this.#drift : 0;
    this.#drift -= correction;
    this.#setSpacers();
    if (correction !== 0) this.#setScrollTop(this.element.scrollTop - correction);
  }

  /** The list, or a row in it, has another size. */
  #onResize() {
    const { clientHeight, clientWidth } = this.element;
    const wasHidden = this.#height === 0;
    const isResized = clientHeight !== this.#height || clientWidth !== this.#width;
    this.#height = clientHeight;
    if (clientHeight === 0) return;
    const anchor = this.isAtEnd ? null : wasHidden ? this.#lastAnchor : this.#findAnchor("top");
    // A bar that appears above the list must not push down what the reader sees.
    const offsetTop = this.#measureOffsetTop();
    if (anchor && !wasHidden) anchor.at -= offsetTop - this.#offsetTop;
    this.#offsetTop = offsetTop;
    if (clientWidth !== this.#width) this.#forgetHeights();
    if (!this.#measure() || isResized) this.#moveTo(anchor);
  }

  #forgetHeights() {
    this.#measured.clear();
    this.#heights.replace(this.#rows.list.map((row) => estimateHeight(row, this.#width)));
  }
}
