// What the user must know about the connection: why there is none, when the next attempt is, and how many messages wait. "Try now" ends
// all waits. The bar is hidden while everything works.

import { h, setText } from "../dom.js";
import { t } from "../language.js";

const DETAIL_KEYS = {
  offline: "console.offlineDetail", blocked: "console.blockedDetail", reconnecting: "console.reconnectingDetail", degraded: "console.degradedDetail",
  incomplete: "console.incompleteDetail",
};
const RETRIED = ["offline", "blocked", "reconnecting"];
const BAD = ["offline", "blocked"];

export class ConnectionBar {
  #chat;
  #getSource;
  #ticker = 0;
  #message = h("span", { role: "status" });
  // Not in a live region: a screen reader would speak every second.
  #countdown = h("span", { class: "countdown" });
  #waiting = h("strong", { role: "status" });
  #button;

  /**
   * @param {string} name Of the pane.
   * @param {import("/sdk/index.js").Chat} chat
   * @param {() => { state: string, error: object | null, retryAt?: number | null }} getSource The open conversation, or else the inbox.
   */
  constructor(name, chat, getSource) {
    this.#chat = chat;
    this.#getSource = getSource;
    const id = (part) => ({ testid: `${name}-${part}` });
    Object.assign(this.#countdown.dataset, id("countdown"));
    Object.assign(this.#waiting.dataset, id("waiting"));
    this.#button = h("button", { type: "button", class: "quiet", dataset: id("try-now"), onclick: () => chat.reconnect() }, t("console.tryNow"));
    this.element = h("div", { class: "banner connection", dataset: id("connection") },
      h("p", {}, this.#message, " ", this.#countdown, " ", this.#waiting), this.#button);
    this.update();
  }

  close() {
    clearInterval(this.#ticker);
  }

  update() {
    const { state, error, retryAt } = this.#getSource();
    const isShown = Object.hasOwn(DETAIL_KEYS, state);
    const waiting = isShown || this.#chat.retrying.some(({ work }) => work === "send") ? this.#chat.pending : 0;
    this.element.hidden = !isShown && waiting === 0;
    this.element.classList.toggle("bad", BAD.includes(state));
    setText(this.#message, isShown ? describeState(state, error) : "");
    setText(this.#waiting, waiting > 0 ? t("console.messagesWaiting", { count: waiting }) : "");
    this.#button.hidden = !RETRIED.includes(state) && waiting === 0;
    this.#updateCountdown(state, retryAt ?? null);
  }

  #updateCountdown(state, retryAt) {
    const seconds = retryAt === null ? 0 : Math.ceil((retryAt - Date.now()) / 1_000);
    const isCounting = RETRIED.includes(state) && seconds > 0;
    setText(this.#countdown, isCounting ? t("console.nextAttempt", { count: seconds }) : state === "reconnecting" ? t("console.attempting") : "");
    clearInterval(this.#ticker);
    this.#ticker = isCounting ? setInterval(() => this.update(), 1_000) : 0;
  }
}

function describeState(state, error) {
  return t(error?.code === "origin_blocked" ? "console.originBlockedDetail" : DETAIL_KEYS[state]);
}
