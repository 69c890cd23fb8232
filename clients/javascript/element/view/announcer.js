// Tells screen readers what is new: messages of the peer, and messages that were not sent. Rows that only scroll into view are not new.

import { h } from "../dom.js";

const MAX_CHARACTERS = 300; // of one announcement
const MAX_ANNOUNCEMENTS = 3; // in one turn; more are counted

export class Announcer {
  #t;
  /** @type {string[]} */
  #waiting = [];

  /** @param {import("../strings/index.js").Translate} t */
  constructor(t) {
    this.#t = t;
    this.element = h("div", { class: "sr-only", role: "status", "aria-live": "polite", "aria-atomic": "false" });
  }

  /** @param {string} text */
  announce(text) {
    this.#waiting.push(text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}…` : text);
    if (this.#waiting.length === 1) setTimeout(() => this.#flush());
  }

  #flush() {
    const texts = this.#waiting.splice(0);
    const isMany = texts.length > MAX_ANNOUNCEMENTS;
    const shown = isMany ? [this.#t("conversation.announceMany", { count: texts.length })] : texts;
    this.element.replaceChildren(...shown.map((text) => h("p", { dir: "auto" }, text)));
  }
}
