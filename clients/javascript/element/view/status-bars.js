// The lines around the messages: the state of the connection, messages that wait to be sent, and unread messages out of view.

import { h, setText } from "../dom.js";

/** @typedef {import("./context.js").Context} Context */
/** @typedef {import("ehr-chat-client").Conversation} Conversation */
/** @typedef {import("../strings/index.js").TextKey} TextKey */

/** @type {Partial<Record<import("ehr-chat-client").State, TextKey>>} */
const BANNERS = {
  incomplete: "conversation.incomplete", degraded: "conversation.degraded", reconnecting: "conversation.reconnecting",
  offline: "conversation.offline", blocked: "conversation.blocked",
};
/** @type {import("ehr-chat-client").State[]} In which trying at once makes sense. */
const RETRYABLE_STATES = ["reconnecting", "offline", "blocked"];

/** Whether the server refuses this conversation. After a 401 another token may come. @param {Conversation} conversation */
export const isRefused = ({ state, error }) => state === "refused" && error?.status !== 401;

export class StatusBars {
  #context;
  #conversation;
  #text = h("span", { dir: "auto" });
  #tryNow;
  #unreadText = h("span");
  #markAllRead;
  #isMarking = false;
  #problem = "";
  #unreadCount = 0;

  /**
   * @param {Context} context
   * @param {Conversation} conversation
   * @param {() => void} onLeaveBar The focus leaves a bar that disappears.
   */
  constructor(context, conversation, onLeaveBar) {
    this.#context = context;
    this.#conversation = conversation;
    const { t, chat } = context;
    this.#tryNow = h("button", { type: "button", class: "quiet", part: "button", onclick: () => chat.reconnect() }, t("conversation.tryNow"));
    this.banner = h("div", { class: "banner", part: "banner", hidden: true }, h("p", { role: "status" }, this.#text), this.#tryNow);
    this.#markAllRead = h("button", { type: "button", class: "quiet", part: "mark-all-read", onclick: () => void this.#markAll(onLeaveBar) }, t("conversation.markAllRead"));
    this.unread = h("div", { class: "unread-bar", part: "unread-bar", hidden: true }, this.#unreadText, this.#markAllRead);
    this.waiting = h("p", { class: "waiting", part: "waiting", role: "status" });
  }

  /** @param {{ unreadCount: number, isAllInView: boolean }} unread */
  update({ unreadCount, isAllInView }) {
    const { t } = this.#context;
    const { state, error, pending, retrying } = this.#conversation;
    const refused = isRefused(this.#conversation);
    const key = state === "blocked" && error?.code === "origin_blocked" ? "conversation.blockedOrigin" : BANNERS[state];
    const text = refused ? t("conversation.refused", { problem: error?.message || t("conversation.refusedUnknown") }) : key ? t(key) : "";
    setText(this.#text, text);
    this.banner.hidden = text === "";
    this.banner.classList.toggle("bad", refused);
    this.#tryNow.hidden = !RETRYABLE_STATES.includes(state);
    // A message that the server stores at once waits for some milliseconds only.
    const isWaiting = pending > 0 && (state !== "live" || retrying.some(({ work }) => work === "send"));
    setText(this.waiting, isWaiting ? t("conversation.waiting", { count: pending }) : "");
    if (unreadCount !== this.#unreadCount && !this.#isMarking) this.#problem = ""; // it is about other messages
    this.#unreadCount = unreadCount;
    this.unread.hidden = !this.#isMarking && (unreadCount === 0 || isAllInView);
    if (!this.#isMarking) setText(this.#unreadText, this.#problem || t("conversation.unread", { count: unreadCount }));
  }

  /** @param {() => void} onLeaveBar */
  async #markAll(onLeaveBar) {
    const { t } = this.#context;
    this.#isMarking = true;
    this.#problem = "";
    this.#markAllRead.disabled = true;
    onLeaveBar();
    try {
      await this.#conversation.markAllRead({
        onProgress: ({ marked, total }) => setText(this.#unreadText, t("conversation.marking", { count: marked, total: total ?? marked })),
      });
    } catch (error) {
      this.#problem = t("conversation.markAllReadProblem", { problem: error instanceof Error ? error.message : String(error) });
    }
    this.#isMarking = false;
    this.#markAllRead.disabled = false;
    this.unread.hidden = this.#problem === "";
    setText(this.#unreadText, this.#problem);
  }
}
