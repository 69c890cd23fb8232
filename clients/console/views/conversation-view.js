// A conversation: its messages by day, older ones on scrolling up, and the composer. It marks a message as read when its end was in view
// for 600 ms on a visible page.

import { h, icon, reconcileChildren, setText } from "../dom.js";
import { createAvatar, describeParticipant } from "../demo-people.js";
import { dayKey, formatDay, formatLastSeen } from "../format.js";
import { Composer } from "./composer.js";
import { MessageView } from "./message-view.js";

const READ_AFTER_MS = 600;
const GROUP_WITHIN_MS = 5 * 60_000;
const END_DISTANCE_PX = 60; // a view so close to the end follows new messages
const BANNERS = {
  incomplete: "Some messages cannot be loaded. The page tries again; you can send messages.",
  degraded: "Live updates are interrupted. New messages arrive a few seconds late; you can send messages.",
  reconnecting: "The connection is interrupted. The page sends your messages when it is back.",
  offline: "You are offline. The page sends your messages when the connection is back.",
  blocked: "This network blocks live updates. New messages arrive a few seconds late; you can send messages.",
};

export class ConversationView {
  #unsubscribe = [];
  /** @type {Map<string, MessageView>} By the message's key. */
  #views = new Map();
  #days = new Map();
  #inView = new Set();
  #readTimer = 0;
  #firstUnread = undefined; // unknown before the first load; then a key or null
  #unseenCount = 0;
  #isAtEnd = true;
  #lastKey = undefined; // unknown before the first load; then the key of the newest message or null
  #olderProblem = null;

  constructor(name, chat, conversation, { back }) {
    this.conversation = conversation;
    this.peer = conversation.peer;
    const { name: title, about } = describeParticipant(this.peer, chat.location_id);
    this.title = title;
    this.about = about;
    this.#createElements(name, chat, back);
    this.#observe();
    this.#render();
  }

  close() {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    clearTimeout(this.#readTimer);
    this.conversation.close();
  }

  /** The view became visible. */
  onShown() {
    if (this.#isAtEnd) this.log.scrollTop = this.log.scrollHeight;
    this.#updateStatus();
    this.#scheduleMarkRead();
  }

  focus() {
    if (matchMedia("(pointer: fine)").matches) this.composer.focus();
    else this.heading.focus(); // on a phone the keyboard would cover half of the conversation
  }

  #createElements(name, chat, back) {
    const { title } = this;
    this.presence = h("span", { class: "soft", dataset: { testid: `${name}-presence` } });
    this.banner = h("p", { class: "banner", role: "status", hidden: true, dataset: { testid: `${name}-banner` } });
    this.older = h("button", { type: "button", class: "quiet older", hidden: true, onclick: () => void this.#loadOlder() });
    this.placeholder = h("p", { class: "nothing soft" });
    this.log = h("div", {
      id: `${name}-messages`, dataset: { testid: `${name}-messages` }, class: "messages", role: "log", "aria-label": `Messages with ${title}`, "aria-live": "off", tabindex: 0,
      onscroll: () => this.#onScroll(),
    });
    this.unreadLine = h("p", { class: "unread-line" }, h("span", {}, "New messages"));
    this.typing = h("p", { class: "typing soft", "aria-live": "polite", dataset: { testid: `${name}-typing` } });
    this.jump = h("button", { type: "button", class: "jump", hidden: true, onclick: () => this.#scrollToEnd() });
    this.composer = new Composer(name, title, { onSend: (content) => this.#send(content), onTyping: () => this.conversation.typing() });
    this.heading = h("h2", { id: `${name}-title`, tabindex: -1 }, title);
    this.element = h("section", { class: "conversation", "aria-label": `Conversation with ${title}` },
      h("header", {},
        h("button", { type: "button", class: "quiet round back", "aria-label": "Back to the conversations", dataset: { testid: `${name}-back` }, onclick: back }, icon("back")),
        createAvatar(this.peer, chat.location_id), h("div", { class: "names" }, this.heading, this.presence)),
      this.banner,
      h("div", { class: "stage" }, this.log, this.jump),
      this.typing,
      this.composer.element);
  }

  #observe() {
    const { conversation } = this;
    this.observer = new IntersectionObserver((changes) => this.#onIntersection(changes), { root: this.log });
    this.observer.observe(this.older);
    const resizes = new ResizeObserver(() => { if (this.#isAtEnd) this.log.scrollTop = this.log.scrollHeight; });
    resizes.observe(this.log);
    const onVisibilityChange = () => this.#scheduleMarkRead();
    document.addEventListener("visibilitychange", onVisibilityChange);
    this.#unsubscribe.push(
      conversation.on("change", () => this.#render()),
      conversation.on("state", () => this.#render()),
      () => document.removeEventListener("visibilitychange", onVisibilityChange),
      () => this.observer.disconnect(),
      () => resizes.disconnect());
  }

  #render() {
    const { conversation, log } = this;
    const { messages, loaded } = conversation;
    const newest = messages.at(-1);
    if (this.#firstUnread === undefined && loaded) this.#firstUnread = messages.find((message) => !message.mine && message.read_at === null)?.key ?? null;
    const isFirst = loaded && this.#lastKey === undefined;
    const hasNewest = this.#lastKey !== undefined && newest?.key !== this.#lastKey;
    log.setAttribute("aria-busy", String(!loaded));
    if (log.clientHeight > 0) this.#isAtEnd = this.#measureIsAtEnd(); // browsers report a scroll later than a message arrives
    const anchor = this.#isAtEnd ? null : this.#findAnchor();
    this.older.hidden = !conversation.hasMore; // before anything is measured
    reconcileChildren(log, this.#buildList(messages));
    if (loaded) this.#lastKey = newest?.key ?? null;
    if (isFirst && this.#firstUnread) this.#scrollToUnread();
    else if (this.#isAtEnd || (hasNewest && newest?.mine)) this.#scrollToEnd();
    else if (anchor) log.scrollTop += anchor.element.offsetTop - anchor.top;
    if (loaded && hasNewest && !this.#isAtEnd) this.#unseenCount++;
    if (loaded && log.getAttribute("aria-live") === "off") queueMicrotask(() => log.setAttribute("aria-live", "polite"));
    this.#updateStatus();
  }

  /** The children of the log, in order. */
  #buildList(messages) {
    const children = [this.older];
    const keys = new Set();
    let before = null;
    for (const message of messages) {
      const day = dayKey(message.sent_at);
      if (!before || day !== dayKey(before.sent_at)) children.push(this.#getDayHeading(day, message.sent_at));
      if (message.key === this.#firstUnread) children.push(this.unreadLine);
      const view = this.#getMessageView(message);
      view.setGrouped(Boolean(before) && before.mine === message.mine && dayKey(before.sent_at) === day && message.key !== this.#firstUnread
        && Date.parse(message.sent_at) - Date.parse(before.sent_at) < GROUP_WITHIN_MS);
      keys.add(message.key);
      children.push(view.element);
      before = message;
    }
    for (const [key, view] of this.#views) if (!keys.has(key)) { this.observer.unobserve(view.footer); this.#views.delete(key); }
    if (messages.length === 0) children.push(this.placeholder);
    return children;
  }

  #getMessageView(message) {
    const existing = this.#views.get(message.key);
    if (existing) {
      existing.update(message);
      return existing;
    }
    const view = new MessageView(message, this.title, {
      retry: (one) => { this.conversation.retry(one).catch(() => {}); this.composer.focus(); },
      discard: (one) => { this.conversation.discard(one); this.composer.focus(); },
    });
    this.#views.set(message.key, view);
    if (!message.mine && message.read_at === null) this.observer.observe(view.footer); // a reader has seen the end of the message
    return view;
  }

  #getDayHeading(day, sent_at) {
    if (!this.#days.has(day)) this.#days.set(day, h("h3", { class: "day" }, h("time", { datetime: sent_at.slice(0, 10) })));
    const heading = this.#days.get(day);
    setText(heading.firstChild, formatDay(sent_at)); // at midnight "today" becomes "yesterday"
    return heading;
  }

  /** Updates everything but the messages. */
  #updateStatus() {
    const { conversation } = this;
    const { state, error, presence } = conversation;
    this.element.dataset.state = state;
    const isRefused = state === "refused" && error?.status !== 401; // after a 401 another token may come, so writing stays possible
    const banner = isRefused ? `You cannot see this conversation: ${error?.message ?? "no access"}` : BANNERS[state] ?? "";
    setText(this.banner, banner);
    this.banner.hidden = banner === "";
    this.banner.classList.toggle("bad", isRefused);
    setText(this.placeholder, conversation.loaded ? "No messages yet. Write the first one." : isRefused ? "" : "Loading…");
    setText(this.presence, presence?.online ? "Online" : presence?.last_seen_at ? formatLastSeen(presence.last_seen_at) : this.about);
    this.presence.classList.toggle("is-online", Boolean(presence?.online));
    setText(this.typing, conversation.peerTyping ? `${this.title} is typing…` : "");
    if (!this.older.disabled) setText(this.older, this.#olderProblem ?? "Earlier messages");
    this.jump.hidden = this.#isAtEnd;
    const label = this.#unseenCount > 0 ? `${this.#unseenCount} new` : "Newest";
    if (this.jump.textContent !== label) this.jump.replaceChildren(icon("down"), h("span", {}, label));
    this.composer.setEnabled(!isRefused);
  }

  async #loadOlder() {
    if (this.older.disabled) return;
    this.older.disabled = true;
    setText(this.older, "Loading…");
    const { length } = this.conversation.messages;
    try {
      await this.conversation.loadOlder();
      this.#olderProblem = null;
    } catch (error) {
      this.#olderProblem = `Earlier messages cannot be loaded: ${error.message}. Try again`;
    }
    this.older.disabled = false;
    this.#updateStatus();
    if (this.conversation.messages.length === length) return; // no room for more, or a failure
    this.observer.unobserve(this.older);
    this.observer.observe(this.older); // reports again if the button is still in view
  }

  #onIntersection(changes) {
    for (const { target, isIntersecting } of changes) {
      if (target === this.older) { if (isIntersecting && !this.#olderProblem) void this.#loadOlder(); continue; }
      if (isIntersecting) this.#inView.add(target);
      else this.#inView.delete(target);
    }
    this.#scheduleMarkRead();
  }

  #scheduleMarkRead() {
    clearTimeout(this.#readTimer);
    this.#readTimer = setTimeout(() => this.#markRead(), READ_AFTER_MS);
  }

  #markRead() {
    if (document.visibilityState !== "visible") return;
    const views = [...this.#views.values()];
    const visible = views.filter((view) => this.#inView.has(view.footer)).map((view) => view.message);
    for (const view of views) if (view.message.read_at !== null && this.#inView.delete(view.footer)) this.observer.unobserve(view.footer);
    this.conversation.markRead(visible.filter((message) => message.read_at === null)).catch(() => {});
  }

  #measureIsAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    return scrollHeight - scrollTop - clientHeight < END_DISTANCE_PX;
  }

  #onScroll() {
    this.#isAtEnd = this.#measureIsAtEnd();
    if (this.#isAtEnd) this.#unseenCount = 0;
    this.#updateStatus();
  }

  /** Scrolls to where the reader stopped, or to the end if all new messages fit. */
  #scrollToUnread() {
    this.log.scrollTop = Math.max(this.unreadLine.offsetTop - 16, 0);
    this.#onScroll();
  }

  #scrollToEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.#isAtEnd = true;
    this.#unseenCount = 0;
    this.#updateStatus();
  }

  /** A visible message and its position, to keep it there while others appear above it. */
  #findAnchor() {
    const element = [...this.log.children].find((child) => child.matches("article") && child.offsetTop + child.offsetHeight > this.log.scrollTop);
    return element ? { element, top: element.offsetTop } : null;
  }

  #send(content) {
    this.conversation.send(content).catch(() => {}); // the message itself shows a failure
    this.#firstUnread = null;
    this.#scrollToEnd();
  }
}
