// The list of conversations: search, unread badges, and the form for a new conversation.

import { reconcileChildren, h, icon, setText } from "../dom.js";
import { relativeTime } from "../format.js";
import { createAvatar, describeParticipant, isSameParticipant } from "../demo-people.js";

const keyOf = ({ user_id, contact_id }) => (user_id !== undefined ? `user:${user_id}` : `contact:${contact_id}`);

export class InboxView {
  #name;
  #chat;
  #inbox;
  #onSelect;
  #selected = null;
  /** By conversation: the element of its row, and what it shows. */
  #rows = new Map();
  #unsubscribe = [];

  constructor(name, title, chat, inbox, onSelect) {
    this.#name = name;
    this.#chat = chat;
    this.#inbox = inbox;
    this.#onSelect = onSelect;
    const id = (part) => ({ id: `${name}-${part}`, dataset: { testid: `${name}-${part}` } });
    this.search = h("input", { type: "search", ...id("search"), placeholder: "Search", autocomplete: "off", spellcheck: "false", oninput: () => this.#render() });
    this.found = h("p", { class: "sr-only", role: "status" });
    this.list = h("ul", { ...id("inbox"), "aria-label": `Conversations of ${title}` });
    this.empty = h("p", { class: "soft empty" });
    this.more = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => void this.#loadMore() }, "Show more");
    this.form = this.#newConversation();
    this.element = h("nav", { class: "inbox", "aria-label": `Inbox of ${title}` },
      h("div", { class: "search" }, icon("search"), h("label", { class: "sr-only", for: `${name}-search` }, "Search conversations"), this.search,
        h("button", {
          type: "button", class: "quiet round", "aria-label": "New conversation", title: "New conversation", "aria-expanded": "false", "aria-controls": `${name}-new`,
          dataset: { testid: `${name}-new-button` }, onclick: () => this.#toggleForm(),
        }, icon("plus"))),
      this.form, this.found, h("div", { class: "rows" }, this.list, this.empty, this.more));
    this.#unsubscribe.push(inbox.on("change", () => this.#render()), inbox.on("error", () => this.#render()), chat.on("presence", () => this.#render()));
    this.#render();
  }

  close() {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  select(peer) {
    this.#selected = peer;
    this.#render();
  }

  /** Moves the focus to the row of a participant. */
  focus(peer) {
    (this.list.querySelector(`[data-peer="${CSS.escape(keyOf(peer))}"]`) ?? this.search).focus();
  }

  async #loadMore() {
    this.more.disabled = true;
    try { await this.#inbox.loadMore(); } catch { /* the button stays, so the user can try again */ }
    this.more.disabled = false;
  }

  #render() {
    const { rows, loaded, hasMore } = this.#inbox;
    const query = this.search.value.trim().toLocaleLowerCase();
    const matches = rows.filter((row) => query === "" || this.#getSearchText(row).includes(query));
    const ids = new Set(rows.map(({ conversation_id }) => conversation_id));
    for (const id of this.#rows.keys()) if (!ids.has(id)) this.#rows.delete(id);
    reconcileChildren(this.list, matches.map((row) => this.#row(row)));
    this.more.hidden = !hasMore;
    this.empty.hidden = matches.length > 0;
    setText(this.empty, !loaded ? "Loading…" : query ? "No conversation matches." : "No conversations yet.");
    setText(this.found, query ? `${matches.length} of ${rows.length} conversations` : "");
  }

  #getSearchText(row) {
    const { name, about } = describeParticipant(row.peer, row.location_id);
    return `${name} ${about} ${row.peer.user_id ?? row.peer.contact_id} ${row.last_message.content}`.toLocaleLowerCase();
  }

  #row(row) {
    const presence = this.#chat.cachedPresence(row.peer);
    const selected = isSameParticipant(row.peer, this.#selected);
    const appearance = JSON.stringify([row.last_message.id, row.unread_count, selected, presence?.online, relativeTime(row.last_activity_at)]);
    const old = this.#rows.get(row.conversation_id);
    if (old?.appearance === appearance) return old.element;
    const { name, about } = describeParticipant(row.peer, row.location_id);
    const button = h("button", {
      type: "button", class: "row", dataset: { peer: keyOf(row.peer), testid: `${this.#name}-row`, unread: row.unread_count },
      "aria-current": selected && "true", onclick: () => this.#onSelect(row.peer),
    },
    h("span", { class: "disc" }, createAvatar(row.peer, row.location_id), presence?.online && h("span", { class: "online" }, h("span", { class: "sr-only" }, "online"))),
    h("span", { class: "names" },
      h("span", { class: "line" }, h("strong", {}, name), h("time", { datetime: row.last_activity_at, class: "soft" }, relativeTime(row.last_activity_at))),
      h("span", { class: "line" },
        h("span", { class: "preview soft" }, h("span", { class: "sr-only" }, `${about}. `), row.mine && "You: ", row.last_message.content),
        row.unread_count > 0 && h("span", { class: "badge" }, row.unread_count > 99 ? "99+" : String(row.unread_count), h("span", { class: "sr-only" }, " unread")))));
    if (!old) {
      const element = h("li", {}, button);
      this.#rows.set(row.conversation_id, { appearance, element });
      return element;
    }
    const focused = old.element.contains(document.activeElement);
    old.appearance = appearance;
    old.element.replaceChildren(button);
    if (focused) button.focus();
    return old.element;
  }

  #toggleForm() {
    this.form.hidden = !this.form.hidden;
    const button = this.element.querySelector(`[aria-controls="${this.form.id}"]`);
    button.setAttribute("aria-expanded", String(!this.form.hidden));
    if (this.form.hidden) button.focus();
    else this.form.querySelector("input").focus();
  }

  #newConversation() {
    const staff = this.#chat.me.user_id !== undefined;
    const problem = h("p", { class: "problem", role: "alert" });
    const kind = h("select", { id: `${this.#name}-new-kind` }, staff && h("option", { value: "contact_id" }, "Patient"), h("option", { value: "user_id" }, "Staff"));
    const who = h("input", { id: `${this.#name}-new-id`, dataset: { testid: `${this.#name}-new-id` }, required: true, maxlength: 64, autocomplete: "off", spellcheck: "false" });
    return h("form", {
      class: "new", id: `${this.#name}-new`, hidden: true,
      onsubmit: (event) => {
        event.preventDefault();
        const peer = { [kind.value]: who.value.trim() };
        if (!/^[A-Za-z0-9._~-]{1,64}$/.test(who.value.trim())) return setText(problem, "An identifier has letters, digits and . _ ~ - only.");
        if (isSameParticipant(peer, this.#chat.me)) return setText(problem, "That is you.");
        setText(problem, "");
        who.value = "";
        this.#toggleForm();
        this.#onSelect(peer);
      },
    },
    h("label", { for: `${this.#name}-new-kind` }, "With"), h("label", { for: `${this.#name}-new-id` }, "Identifier"),
    kind, who, h("button", { class: "primary", dataset: { testid: `${this.#name}-new-open` } }, "Open"), problem);
  }
}
