// One conversation: header, messages, and the form to write with. It opens at the first unread message.

import { Announcer } from "./announcer.js";
import { Composer } from "./composer.js";
import { Header } from "./header.js";
import { isRefused, StatusBars } from "./status-bars.js";
import { h, icon, setText } from "../dom.js";
import { MessageList } from "../messages/message-list.js";
import { ReadMarker } from "../messages/read-marker.js";
import { dayKey } from "../strings/dates.js";

/** @typedef {import("ehr-chat-client").Message} Message */
/** @typedef {import("ehr-chat-client").Conversation} Conversation */
/** @typedef {import("./context.js").Context} Context */

const MAX_WAIT_FOR_UNREAD_MS = 3_000; // then the newest messages are shown, wherever the first unread one is

export class ConversationView {
  #context;
  #conversation;
  #header;
  #bars;
  #composer;
  #announcer;
  #marker;
  #list;
  #older;
  #placeholder = h("p", { class: "nothing soft", part: "placeholder" });
  #jump;
  #typing = h("p", { class: "typing soft", part: "typing", "aria-live": "polite" });
  #isOpening = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #openTimer = undefined;
  #isLoadingUnread = false;
  /** What the SDK last said, and the line that is shown. @type {number | null | undefined} */
  #firstUnread = undefined;
  /** @type {number | null} */
  #unreadLine = null;
  /** @type {readonly Message[] | null} */
  #shownMessages = null;
  /** @type {number | null} */
  #shownLine = null;
  #shownDay = "";
  #shownName = "";
  #unread = { count: 0, first: -1, last: -1 };
  #unseenCount = 0;
  /** Messages that arrived while the page was in the background, and whether the reader was at the end before. */
  #background = { count: 0, wasAtEnd: false };
  /** The reader comes back to the page, and was at the end: the view goes to the first message that is new since then. */
  #isReturning = false;
  #isLoadingOlder = false;
  #hasNoMoreRoom = false;
  #olderProblem = "";
  /** @type {Set<string>} */
  #failedKeys = new Set();
  /** @type {Set<string>} */
  #unfolded = new Set();
  /** @type {(() => void)[]} */
  #unsubscribe = [];

  /**
   * @param {Context} context
   * @param {Conversation} conversation
   * @param {() => void} onBack
   */
  constructor(context, conversation, onBack) {
    this.#context = context;
    this.#conversation = conversation;
    const { t } = context;
    this.#header = new Header(context, conversation.peer, onBack);
    this.#bars = new StatusBars(context, conversation, () => this.#list.element.focus());
    this.#composer = new Composer(context, conversation, (content) => this.#send(content));
    this.#announcer = new Announcer(t);
    this.#marker = new ReadMarker((messages) => { conversation.markRead(messages).catch(() => {}); });
    this.#older = h("button", { type: "button", class: "quiet older", part: "earlier", hidden: true, onclick: () => void this.#loadOlder() });
    this.#list = new MessageList({
      context,
      getPeerName: () => this.#shownName,
      isUnfolded: ({ key }) => this.#unfolded.has(key),
      setUnfolded: ({ key }, isUnfolded) => { if (isUnfolded) this.#unfolded.add(key); else this.#unfolded.delete(key); this.#marker.schedule(); },
      retry: (message) => { conversation.retry(message).catch(() => {}); this.#composer.focus(); },
      discard: (message) => { conversation.discard(message); this.#composer.focus(); },
    }, {
      onScroll: () => this.#onScroll(),
      onRowAdded: (row) => this.#marker.add(row),
      onRowRemoved: (row) => this.#marker.remove(row),
    }, [this.#older], [this.#placeholder]);
    this.#jump = h("button", { type: "button", class: "jump", part: "jump", hidden: true, title: t("conversation.jump"), onclick: () => this.#list.scrollToEnd() },
      icon("down"), h("span"));
    this.element = h("section", { class: "conversation", part: "conversation" },
      this.#header.element, this.#bars.banner, this.#bars.unread,
      h("div", { class: "stage" }, this.#list.element, this.#jump),
      this.#typing, this.#bars.waiting, this.#composer.element, this.#announcer.element);
    this.#observe();
    this.#render();
  }

  /** The composer, or on a touch screen the name: there the keyboard would cover half of the conversation. */
  focus() {
    if (matchMedia("(pointer: fine)").matches) this.#composer.focus();
    else this.#header.heading.focus();
  }

  close() {
    clearTimeout(this.#openTimer);
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#marker.close();
    this.#list.close();
  }

  #observe() {
    const onVisibilityChange = () => this.#onVisibilityChange();
    document.addEventListener("visibilitychange", onVisibilityChange);
    this.#unsubscribe.push(
      this.#conversation.on("change", () => this.#render()),
      this.#conversation.on("state", () => this.#render()),
      this.#conversation.on("message", (message) => this.#onMessage(message)),
      this.#context.people.on("change", () => this.#render()),
      () => document.removeEventListener("visibilitychange", onVisibilityChange));
  }

  #render() {
    const { messages, loaded, hasMore } = this.#conversation;
    this.#showNames();
    this.#older.hidden = !hasMore || messages.length === 0; // before anything is measured
    this.#list.element.setAttribute("aria-busy", String(!loaded || this.#isOpening));
    if (loaded && this.#isOpening) this.#tryOpen();
    this.#followFirstUnread();
    if (!(loaded && this.#isOpening)) this.#showMessages(messages);
    setText(this.#placeholder, this.#isOpening && !loaded && isRefused(this.#conversation) ? "" : this.#context.t(loaded && !this.#isOpening ? "conversation.empty" : "conversation.loading"));
    this.#placeholder.hidden = this.#shownMessages !== null && this.#shownMessages.length > 0;
    this.#composer.setEnabled(!isRefused(this.#conversation));
    this.#composer.showDraft();
    this.#updateStatus();
    this.#loadOlderIfNear();
  }

  /** Opens at the first unread message, once it is known and loaded. */
  #tryOpen() {
    const { firstUnread, messages } = this.#conversation;
    if (this.#isLoadingUnread) return;
    if (firstUnread === undefined && this.#openTimer === undefined) this.#openTimer = setTimeout(() => this.#openWithoutFirstUnread(), MAX_WAIT_FOR_UNREAD_MS);
    if (firstUnread === undefined) return;
    clearTimeout(this.#openTimer);
    if (firstUnread === null || firstUnread >= (messages[0]?.seq ?? 0)) return this.#open(firstUnread);
    this.#isLoadingUnread = true;
    const open = () => { if (this.#isOpening) { this.#open(firstUnread); this.#render(); } };
    this.#conversation.loadUntil(firstUnread).then(open, open);
  }

  #openWithoutFirstUnread() {
    if (!this.#isOpening) return;
    this.#open(this.#conversation.messages.find((message) => !message.mine && message.read_at === null)?.seq ?? null);
    this.#render();
  }

  /** @param {number | null} firstUnread */
  #open(firstUnread) {
    clearTimeout(this.#openTimer); // a message that the reader sends opens the view, too
    this.#isOpening = false;
    this.#firstUnread = this.#conversation.firstUnread;
    this.#unreadLine = firstUnread;
    this.#showMessages(this.#conversation.messages);
    if (firstUnread === null) this.#list.scrollToEnd();
    else this.#list.scrollToUnread();
  }

  /** The SDK found another first unread message: after the page was in the background. */
  #followFirstUnread() {
    const { firstUnread } = this.#conversation;
    if (this.#isOpening || firstUnread === undefined || firstUnread === this.#firstUnread) return;
    this.#firstUnread = firstUnread;
    this.#unreadLine = firstUnread;
    if (firstUnread === null || !this.#isReturning) return;
    this.#isReturning = false;
    this.#showMessages(this.#conversation.messages);
    this.#list.scrollToUnread();
  }

  /** @param {readonly Message[]} messages */
  #showMessages(messages) {
    const today = dayKey(new Date().toISOString());
    if (messages === this.#shownMessages && this.#unreadLine === this.#shownLine && today === this.#shownDay) return;
    if (today !== this.#shownDay) this.#list.refreshTexts();
    this.#shownMessages = messages;
    this.#shownLine = this.#unreadLine;
    this.#shownDay = today;
    this.#countUnread(messages);
    this.#announceFailures(messages);
    this.#list.update(messages, this.#unreadLine);
    this.#list.setConversationSize(messages.findLast(({ seq }) => seq !== null)?.seq ?? messages.length);
  }

  /** @param {readonly Message[]} messages */
  #countUnread(messages) {
    this.#unread = { count: 0, first: -1, last: -1 };
    for (const [index, message] of messages.entries()) {
      if (message.mine || message.read_at !== null) continue;
      if (this.#unread.count === 0) this.#unread.first = index;
      this.#unread.last = index;
      this.#unread.count++;
    }
  }

  /** @param {readonly Message[]} messages */
  #announceFailures(messages) {
    const { t } = this.#context;
    const failed = messages.slice(messages.findLastIndex(({ seq }) => seq !== null) + 1).filter(({ status }) => status === "failed");
    for (const { key, error } of failed) {
      if (!this.#failedKeys.has(key)) this.#announcer.announce(t("message.problem", { problem: error?.message || t("message.problemUnknown") }));
    }
    this.#failedKeys = new Set(failed.map(({ key }) => key));
  }

  #showNames() {
    const { people, t } = this.#context;
    this.#header.update(this.#conversation.presence);
    const { name } = people.get(this.#conversation.peer);
    if (name === this.#shownName) return;
    this.#shownName = name;
    this.element.setAttribute("aria-label", t("conversation.label", { name }));
    this.#list.element.setAttribute("aria-label", t("conversation.messages", { name }));
    this.#composer.setPeerName(name);
    this.#list.refreshTexts();
  }

  /** Updates everything but the messages. */
  #updateStatus() {
    const { t } = this.#context;
    const { state, peerTyping } = this.#conversation;
    this.element.dataset.state = state;
    const { first, last } = this.#list.visible;
    const isAllInView = this.#unread.first >= first && this.#unread.last < last;
    this.#bars.update({ unreadCount: this.#isOpening ? 0 : this.#unread.count, isAllInView });
    setText(this.#typing, peerTyping ? t("conversation.typing", { name: this.#shownName }) : "");
    setText(this.#older, this.#isLoadingOlder ? t("conversation.loading") : this.#olderProblem || t("conversation.earlier"));
    this.#jump.hidden = this.#list.isAtEnd || this.#isOpening;
    setText(/** @type {Node} */ (this.#jump.lastChild), this.#unseenCount > 0 ? t("conversation.jumpUnseen", { count: this.#unseenCount }) : t("conversation.newest"));
  }

  async #loadOlder() {
    if (this.#isLoadingOlder) return;
    this.#isLoadingOlder = true;
    this.#updateStatus();
    const { length } = this.#conversation.messages;
    try {
      await this.#conversation.loadOlder();
      this.#olderProblem = "";
    } catch (error) {
      this.#olderProblem = this.#context.t("conversation.earlierProblem", { problem: error instanceof Error ? error.message : String(error) });
    }
    this.#isLoadingOlder = false;
    this.#hasNoMoreRoom = this.#conversation.messages.length === length;
    this.#updateStatus();
    this.#loadOlderIfNear();
  }

  #loadOlderIfNear() {
    if (this.#isOpening || this.#hasNoMoreRoom || this.#olderProblem || !this.#conversation.hasMore) return;
    if (this.#list.element.clientHeight > 0 && this.#list.isNearStart) void this.#loadOlder();
  }

  #onScroll() {
    if (this.#list.isAtEnd) this.#unseenCount = 0;
    this.#updateStatus();
    this.#loadOlderIfNear();
  }

  /** @param {Message} message */
  #onMessage(message) {
    if (message.mine) return;
    if (!this.#list.isAtEnd) this.#unseenCount++;
    if (document.visibilityState !== "visible") this.#background.count++;
    this.#announcer.announce(`${this.#context.t("message.author", { name: this.#shownName })} ${message.content}`);
    this.#updateStatus();
  }

  /** Messages that arrive in the background get the line of new messages when the reader returns, however many they are. */
  #onVisibilityChange() {
    if (document.visibilityState !== "visible") {
      this.#background = { count: 0, wasAtEnd: this.#list.isAtEnd };
      return;
    }
    const { count, wasAtEnd } = this.#background;
    if (count === 0 || this.#isOpening) return;
    this.#background.count = 0;
    this.#firstUnread = undefined;
    this.#isReturning = wasAtEnd;
    this.#conversation.resetFirstUnread();
    this.#render();
  }

  /** @param {string} content */
  #send(content) {
    if (this.#isOpening && this.#conversation.loaded) this.#open(null);
    const sent = this.#conversation.send(content);
    this.#unreadLine = null;
    this.#showMessages(this.#conversation.messages);
    this.#list.scrollToEnd();
    return sent;
  }
}
