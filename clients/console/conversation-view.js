// A conversation: messages with their days, older ones on scrolling up, and the field to write in.

import { reconcileChildren, h, icon, setText } from "./dom.js";
import { formatDay, dayKey, formatLastSeen } from "./format.js";
import { MessageView } from "./message-view.js";
import { createAvatar, describeParticipant } from "./demo-people.js";

const READ_AFTER_MS = 600; // in view for so long is read
const GROUP_WITHIN_MS = 5 * 60_000;
const MAX_CHARACTERS = 8_000;
const BANNERS = {
  incomplete: "Some messages cannot be loaded at the moment. That is tried again; sending works.",
  degraded: "Live updates are interrupted. New messages come with a delay of a few seconds; sending works.",
  reconnecting: "The connection is interrupted. What you write is sent when it is back.",
};

export class ConversationView {
  #unsubscribe = [];
  /** @type {Map<string, MessageView>} By the message's key. */
  #views = new Map();
  #days = new Map();
  #inView = new Set();
  #readTimer = 0;
  #firstUnread = undefined; // not known yet; then a key or null
  #unseenCount = 0;
  #sticky = true;

  constructor(name, chat, conversation, { back }) {
    this.conversation = conversation;
    this.peer = conversation.peer;
    const { name: title, about } = describeParticipant(this.peer, chat.location_id);
    this.title = title;
    const id = (part) => ({ id: `${name}-${part}`, dataset: { testid: `${name}-${part}` } });

    this.presence = h("span", { class: "soft", dataset: { testid: `${name}-presence` } });
    this.about = about;
    this.banner = h("p", { class: "banner", role: "status", hidden: true, dataset: { testid: `${name}-banner` } });
    this.older = h("button", { type: "button", class: "quiet older", hidden: true, onclick: () => void this.#loadOlder() });
    this.nothing = h("p", { class: "nothing soft" });
    this.log = h("div", { ...id("messages"), class: "messages", role: "log", "aria-label": `Messages with ${title}`, "aria-live": "off", tabindex: 0, onscroll: () => this.#onScroll() });
    this.unreadLine = h("p", { class: "unread-line" }, h("span", {}, "New messages"));
    this.typing = h("p", { class: "typing soft", "aria-live": "polite", dataset: { testid: `${name}-typing` } });
    this.jump = h("button", { type: "button", class: "jump", hidden: true, onclick: () => this.#scrollToEnd() });
    this.input = h("textarea", {
      ...id("input"), rows: 1, placeholder: "Write a message", enterkeyhint: "send", "aria-describedby": `${name}-count`,
      oninput: () => { this.#resizeInput(); if (this.input.value) conversation.typing(); },
      onkeydown: (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        this.#send();
      },
    });
    this.count = h("p", { class: "count soft", id: `${name}-count`, role: "status" });
    this.button = h("button", { class: "primary round", "aria-label": "Send", title: "Send", dataset: { testid: `${name}-send` } }, icon("send"));
    this.heading = h("h2", { id: `${name}-title`, tabindex: -1 }, title);
    this.element = h("section", { class: "conversation", "aria-label": `Conversation with ${title}` },
      h("header", {},
        h("button", { type: "button", class: "quiet round back", "aria-label": "Back to the conversations", dataset: { testid: `${name}-back` }, onclick: back }, icon("back")),
        createAvatar(this.peer, chat.location_id), h("div", { class: "names" }, this.heading, this.presence)),
      this.banner,
      h("div", { class: "stage" }, this.log, this.jump),
      this.typing,
      h("form", { class: "compose", onsubmit: (event) => { event.preventDefault(); this.#send(); } },
        h("label", { class: "sr-only", for: `${name}-input` }, `Message to ${title}`), this.input, this.button, this.count));

    this.observer = new IntersectionObserver((changes) => this.#onIntersection(changes), { root: this.log });
    this.observer.observe(this.older);
    const visible = () => this.#scheduleMarkRead();
    document.addEventListener("visibilitychange", visible);
    this.resizes = new ResizeObserver(() => { if (this.#sticky) this.log.scrollTop = this.log.scrollHeight; });
    this.resizes.observe(this.log);
    this.#unsubscribe.push(conversation.on("change", () => this.#render()), conversation.on("state", () => this.#render()),
      () => document.removeEventListener("visibilitychange", visible));
    this.#render();
  }

  close() {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.observer.disconnect();
    this.resizes.disconnect();
    clearTimeout(this.#readTimer);
    this.conversation.close();
  }

  /** It is on the screen (again). */
  onShown() {
    if (this.#sticky) this.log.scrollTop = this.log.scrollHeight;
    this.#updateStatus();
    this.#scheduleMarkRead();
  }

  focus() {
    if (matchMedia("(pointer: fine)").matches) this.input.focus();
    else this.heading.focus(); // on a phone the keyboard would cover half of the conversation
  }

  #render() {
    const { conversation, log } = this;
    const { messages, loaded } = conversation;
    if (this.#firstUnread === undefined && loaded) this.#firstUnread = messages.find((message) => !message.mine && message.read_at === null)?.key ?? null;
    const first = loaded && this.lastKey === undefined;
    log.setAttribute("aria-busy", String(!loaded));
    if (log.clientHeight > 0) this.#sticky = this.#isAtEnd(); // of a scroll the browser tells later than of a message
    const anchor = this.#sticky ? null : this.#findAnchor();
    this.older.hidden = !conversation.hasMore; // before anything is measured
    reconcileChildren(log, this.#buildList(messages));
    const mineIsNew = messages.length > 0 && messages.at(-1).mine && messages.at(-1).key !== this.lastKey && this.lastKey !== undefined;
    const arrived = loaded && this.lastKey !== undefined && messages.at(-1)?.key !== this.lastKey;
    if (loaded) this.lastKey = messages.at(-1)?.key ?? null;
    if (first && this.#firstUnread) this.#scrollToUnread();
    else if (this.#sticky || mineIsNew) this.#scrollToEnd();
    else if (anchor) log.scrollTop += anchor.element.offsetTop - anchor.top;
    if (arrived && !this.#sticky) this.#unseenCount++;
    if (loaded && log.getAttribute("aria-live") === "off") queueMicrotask(() => log.setAttribute("aria-live", "polite"));
    this.#updateStatus();
  }

  /** All that the list holds, in its order. */
  #buildList(messages) {
    const wanted = [this.older];
    const keys = new Set();
    let before = null;
    for (const message of messages) {
      const day = dayKey(message.sent_at);
      if (!before || day !== dayKey(before.sent_at)) wanted.push(this.#dayHeading(day, message.sent_at));
      if (message.key === this.#firstUnread) wanted.push(this.unreadLine);
      let view = this.#views.get(message.key);
      if (view) view.update(message);
      else {
        view = new MessageView(message, this.title, {
          retry: (one) => { this.conversation.retry(one).catch(() => {}); this.input.focus(); },
          discard: (one) => { this.conversation.discard(one); this.input.focus(); },
        });
        this.#views.set(message.key, view);
        if (!message.mine && message.read_at === null) this.observer.observe(view.footer); // read is who saw its end
      }
      view.setGrouped(Boolean(before) && before.mine === message.mine && dayKey(before.sent_at) === day && message.key !== this.#firstUnread
        && Date.parse(message.sent_at) - Date.parse(before.sent_at) < GROUP_WITHIN_MS);
      keys.add(message.key);
      wanted.push(view.element);
      before = message;
    }
    for (const [key, view] of this.#views) if (!keys.has(key)) { this.observer.unobserve(view.footer); this.#views.delete(key); }
    if (messages.length === 0) wanted.push(this.nothing);
    return wanted;
  }

  #dayHeading(day, sent_at) {
    if (!this.#days.has(day)) this.#days.set(day, h("h3", { class: "day" }, h("time", { datetime: sent_at.slice(0, 10) })));
    const heading = this.#days.get(day);
    setText(heading.firstChild, formatDay(sent_at)); // today is yesterday at midnight
    return heading;
  }

  /** What stands beside the messages. */
  #updateStatus() {
    const { conversation } = this;
    const { state, error, presence } = conversation;
    this.element.dataset.state = state;
    const refused = state === "refused" && error?.status !== 401; // 401: a token may come, and then it is sent
    const banner = refused ? `You cannot see this conversation: ${error?.message ?? "no access"}` : BANNERS[state] ?? "";
    setText(this.banner, banner);
    this.banner.hidden = banner === "";
    this.banner.classList.toggle("bad", refused);
    setText(this.nothing, conversation.loaded ? "No messages yet. Write the first one." : refused ? "" : "Loading…");
    setText(this.presence, presence?.online ? "Online" : presence?.last_seen_at ? formatLastSeen(presence.last_seen_at) : this.about);
    this.presence.classList.toggle("is-online", Boolean(presence?.online));
    setText(this.typing, conversation.peerTyping ? `${this.title} is typing…` : "");
    if (!this.older.disabled) setText(this.older, this.olderProblem ?? "Earlier messages");
    this.jump.hidden = this.#sticky;
    const words = this.#unseenCount > 0 ? `${this.#unseenCount} new` : "Newest";
    if (this.jump.textContent !== words) this.jump.replaceChildren(icon("down"), h("span", {}, words));
    this.input.disabled = this.button.disabled = refused;
  }

  async #loadOlder() {
    if (this.older.disabled) return;
    this.older.disabled = true;
    setText(this.older, "Loading…");
    const { length } = this.conversation.messages;
    try {
      await this.conversation.loadOlder();
      this.olderProblem = null;
    } catch (error) {
      this.olderProblem = `Earlier messages cannot be loaded: ${error.message}. Try again`;
    }
    this.older.disabled = false;
    this.#updateStatus();
    if (this.conversation.messages.length === length) return; // no more room, or no luck
    this.observer.unobserve(this.older);
    this.observer.observe(this.older); // still in view: tells again
  }

  #onIntersection(changes) {
    for (const { target, isIntersecting } of changes) {
      if (target === this.older) { if (isIntersecting && !this.olderProblem) void this.#loadOlder(); continue; }
      if (isIntersecting) this.#inView.add(target);
      else this.#inView.delete(target);
    }
    this.#scheduleMarkRead();
  }

  /** What has been in view for a moment, on a page that is in view, is read. */
  #scheduleMarkRead() {
    clearTimeout(this.#readTimer);
    this.#readTimer = setTimeout(() => {
      if (document.visibilityState !== "visible") return;
      const read = [...this.#views.values()].filter((view) => this.#inView.has(view.footer)).map((view) => view.message);
      for (const view of this.#views.values()) {
        if (view.message.read_at !== null && this.#inView.delete(view.footer)) this.observer.unobserve(view.footer);
      }
      this.conversation.markRead(read.filter((message) => message.read_at === null)).catch(() => {});
    }, READ_AFTER_MS);
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    return scrollHeight - scrollTop - clientHeight < 60;
  }

  #onScroll() {
    this.#sticky = this.#isAtEnd();
    if (this.#sticky) this.#unseenCount = 0;
    this.#updateStatus();
  }

  /** Where one stopped reading; the end, when all that is new fits. */
  #scrollToUnread() {
    this.log.scrollTop = Math.max(this.unreadLine.offsetTop - 16, 0);
    this.#onScroll();
  }

  #scrollToEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.#sticky = true;
    this.#unseenCount = 0;
    this.#updateStatus();
  }

  /** Something on the screen, to keep it where it is. */
  #findAnchor() {
    const element = [...this.log.children].find((child) => child.matches("article") && child.offsetTop + child.offsetHeight > this.log.scrollTop);
    return element ? { element, top: element.offsetTop } : null;
  }

  #send() {
    const content = this.input.value.trim();
    if (content === "" || [...content].length > MAX_CHARACTERS || this.input.disabled) return;
    this.conversation.send(content).catch(() => {}); // the message itself shows how it went
    this.#firstUnread = null;
    this.input.value = "";
    this.#resizeInput();
    this.input.focus();
    this.#scrollToEnd();
  }

  #resizeInput() {
    const { length } = [...this.input.value];
    setText(this.count, length > MAX_CHARACTERS - 500 ? `${length} of ${MAX_CHARACTERS} characters` : "");
    this.count.classList.toggle("bad", length > MAX_CHARACTERS);
    this.input.rows = Math.min(Math.max(this.input.value.split("\n").length, Math.ceil(length / 60)), 6) || 1;
  }
}
