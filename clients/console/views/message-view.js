// One message on the screen. An update changes only what differs.

import { h, icon, setText } from "../dom.js";
import { formatFullTime, formatTime } from "../format.js";

const TICKS = {
  sending: ["clock", "Waiting to be sent"], failed: ["alert", "Not sent"], sent: ["check", "Sent"], delivered: ["checks", "Delivered"], read: ["checks", "Read"],
};

export class MessageView {
  #actions;
  #tick = null;
  #time;
  #problem = null;
  #author;

  /**
   * @param {import("/sdk/index.js").Message} message
   * @param {string} author
   * @param {{ retry: (message: object) => void, discard: (message: object) => void }} actions
   */
  constructor(message, author, actions) {
    this.#actions = actions;
    this.#author = message.mine ? "You" : author;
    this.#time = h("time", {});
    this.footer = h("footer", {}, this.#time);
    if (message.mine) {
      this.#tick = h("span", { class: "tick", role: "img" });
      this.footer.append(this.#tick);
    }
    this.element = h("article", { class: message.mine ? "message mine" : "message" },
      h("span", { class: "sr-only" }, `${this.#author}: `), h("p", {}, message.content), this.footer);
    this.update(message);
  }

  update(message) {
    if (message === this.message) return;
    this.message = message;
    const { element } = this;
    element.dataset.id = message.id ?? message.client_message_id;
    element.dataset.state = message.status;
    if (message.seq !== null) element.dataset.seq = message.seq;
    this.#time.dateTime = message.sent_at;
    this.#time.title = formatFullTime(message.sent_at);
    setText(this.#time, formatTime(message.sent_at));
    if (this.#tick) {
      const [iconName, meaning] = TICKS[message.status];
      if (this.#tick.getAttribute("aria-label") !== meaning) {
        this.#tick.setAttribute("aria-label", meaning);
        this.#tick.title = meaning;
        this.#tick.replaceChildren(icon(iconName));
      }
    }
    this.#showProblem(message);
  }

  /** @param {boolean} isGrouped Whether it follows a message of the same author closely. */
  setGrouped(isGrouped) {
    this.element.classList.toggle("joined", isGrouped);
  }

  #showProblem(message) {
    if (message.status !== "failed") {
      this.#problem?.remove();
      this.#problem = null;
      return;
    }
    if (this.#problem) return;
    this.#problem = h("div", { class: "unsent" },
      h("span", { role: "alert" }, `Not sent: ${message.error?.message ?? "refused"}`),
      h("span", { class: "actions" },
        h("button", { type: "button", class: "quiet", onclick: () => this.#actions.retry(this.message) }, "Try again"),
        h("button", { type: "button", class: "quiet", onclick: () => this.#actions.discard(this.message) }, "Discard")));
    this.element.append(this.#problem);
  }
}
