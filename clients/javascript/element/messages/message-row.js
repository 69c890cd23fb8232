// One row of the list: its message, and before it the heading of a day or the line of new messages. An update changes only what differs.

import { createContent } from "../content/message-content.js";
import { h, icon, reconcileChildren, setText } from "../dom.js";

/** @typedef {import("ehr-chat-client").Message} Message */
/** @typedef {import("./rows.js").Row} Row */
/** @typedef {import("../strings/index.js").TextKey} TextKey */

/** @type {Record<import("ehr-chat-client").Status, [Parameters<typeof icon>[0], TextKey]>} */
const TICKS = {
  sending: ["clock", "message.sending"], failed: ["alert", "message.failed"], sent: ["check", "message.sent"],
  delivered: ["checks", "message.delivered"], read: ["read", "message.read"],
};

/**
 * @typedef {object} Owner
 * @property {import("../view/context.js").Context} context
 * @property {() => string} getPeerName
 * @property {(message: Message) => boolean} isUnfolded
 * @property {(message: Message, isUnfolded: boolean) => void} setUnfolded
 * @property {(message: Message) => void} retry
 * @property {(message: Message) => void} discard
 */

export class MessageRow {
  #owner;
  #author = h("span", { class: "sr-only" });
  #time = h("time");
  #tick = h("span", { class: "tick", part: "tick", role: "img" });
  #day = h("h3", { class: "day", part: "day" }, h("time"));
  #unreadLine = h("p", { class: "unread-line", part: "unread-line" }, h("span"));
  /** @type {HTMLElement | null} */
  #problem = null;
  #content;
  #article;

  /**
   * @param {Row} row
   * @param {Owner} owner
   */
  constructor(row, owner) {
    this.#owner = owner;
    /** @type {Row | null} */
    this.row = null;
    const { message } = row;
    this.#content = createContent(message.content, owner.context.t, {
      isOpen: owner.isUnfolded(message), onToggle: (isOpen) => owner.setUnfolded(message, isOpen),
    });
    /** The end of the message: a reader who has seen it has seen the message. */
    this.end = h("footer", {}, this.#time, message.mine && this.#tick);
    this.#article = h("article", { class: message.mine ? "message mine" : "message", part: message.mine ? "message mine" : "message" },
      this.#author, this.#content.element, this.end);
    this.element = h("div", { class: "row" }, this.#article);
    this.update(row);
  }

  /** @returns {Message} */
  get message() {
    return /** @type {Row} */ (this.row).message;
  }

  /** Whether a part of the message is not shown. */
  get isFolded() {
    return this.#content.isFoldable && !this.#owner.isUnfolded(this.message);
  }

  /** @param {Row} row */
  update(row) {
    if (row === this.row) return;
    this.#updateTexts(row);
    this.row = row;
    const { message } = row;
    this.element.classList.toggle("joined", row.isJoined);
    reconcileChildren(this.element, [...(row.startsDay ? [this.#day] : []), ...(row.startsUnread ? [this.#unreadLine] : []), this.#article]);
    const { dataset } = this.#article;
    dataset.id = String(message.id ?? message.client_message_id);
    dataset.state = message.status;
    if (message.seq !== null) {
      dataset.seq = String(message.seq);
      this.#article.setAttribute("aria-posinset", String(message.seq));
    }
    this.#showTick(message);
    this.#showProblem(message);
  }

  /** The number of messages in the conversation, for screen readers. @param {number} size */
  setConversationSize(size) {
    this.#article.setAttribute("aria-setsize", String(size));
  }

  /** What changes without the message: the peer's name, and at midnight "Today". */
  refreshTexts() {
    if (this.row) this.#updateTexts(this.row);
  }

  /** @param {Row} row */
  #updateTexts({ message, startsDay, startsUnread }) {
    const { t, dates } = this.#owner.context;
    setText(this.#author, `${t("message.author", { name: message.mine ? t("message.you") : this.#owner.getPeerName() })} `);
    if (startsDay) {
      const time = /** @type {HTMLTimeElement} */ (this.#day.firstChild);
      time.dateTime = message.sent_at.slice(0, 10);
      setText(time, dates.formatDay(message.sent_at));
    }
    if (startsUnread) setText(/** @type {Node} */ (this.#unreadLine.firstChild), t("conversation.newMessages"));
    if (this.row?.message.sent_at === message.sent_at) return;
    this.#time.dateTime = message.sent_at;
    this.#time.title = dates.formatFullTime(message.sent_at);
    setText(this.#time, dates.formatTime(message.sent_at));
  }

  /** @param {Message} message */
  #showTick({ mine, status }) {
    const [iconName, key] = TICKS[status];
    const meaning = this.#owner.context.t(key);
    if (!mine || this.#tick.getAttribute("aria-label") === meaning) return;
    this.#tick.setAttribute("aria-label", meaning);
    this.#tick.title = meaning;
    this.#tick.replaceChildren(icon(iconName));
  }

  /** @param {Message} message */
  #showProblem({ status, error }) {
    this.#problem?.remove();
    this.#problem = null;
    if (status !== "failed") return;
    const { t } = this.#owner.context;
    this.#problem = h("div", { class: "unsent", part: "problem" },
      h("span", { dir: "auto" }, t("message.problem", { problem: error?.message || t("message.problemUnknown") })),
      h("span", { class: "actions" },
        h("button", { type: "button", class: "quiet", part: "button", onclick: () => this.#owner.retry(this.message) }, t("message.retry")),
        h("button", { type: "button", class: "quiet", part: "button", onclick: () => this.#owner.discard(this.message) }, t("message.discard"))));
    this.#article.append(this.#problem);
  }
}
