// The list of conversations: search, rows, and the form for a new conversation.

import { createAvatar } from "/sdk/element.js";
import { keyOf } from "/sdk/index.js";

import { DEMO_LOCATION, DEMO_PEOPLE, development, isSameParticipant } from "../demo-people.js";
import { h, icon, reconcileChildren, setText } from "../dom.js";
import { t } from "../language.js";
import { InboxRow } from "./inbox-row.js";
import { createNewConversationForm } from "./new-conversation.js";

export class InboxView {
  #name;
  #chat;
  #inbox;
  #people;
  #onSelect;
  #selected = null;
  /** @type {Map<string, InboxRow>} By conversation. */
  #rows = new Map();
  #unsubscribe = [];

  /**
   * @param {string} name Of the pane.
   * @param {string} title
   * @param {{ chat: import("/sdk/index.js").Chat, inbox: import("/sdk/index.js").Inbox, people: object }} data
   * @param {(peer: import("/sdk/index.js").Participant) => void} onSelect
   */
  constructor(name, title, { chat, inbox, people }, onSelect) {
    this.#name = name;
    this.#chat = chat;
    this.#inbox = inbox;
    this.#people = people;
    this.#onSelect = onSelect;
    this.#createElements(title);
    const render = () => this.#render();
    this.#unsubscribe.push(inbox.on("change", render), inbox.on("error", render), chat.on("presence", render), people.on("change", render));
    this.#render();
  }

  close() {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  select(peer) {
    this.#selected = peer;
    this.#render();
  }

  /** Moves the focus to the row of a participant. Without a row there is nothing to continue with but the search. */
  focus(peer) {
    (this.list.querySelector(`[data-peer="${CSS.escape(keyOf(peer))}"]`) ?? this.search).focus();
  }

  /** Moves the focus to where the user goes on: the first conversation, or the start of a new one. */
  focusFirst() {
    (this.list.querySelector(".row") ?? this.empty.querySelector("button") ?? this.newButton).focus();
  }

  #createElements(title) {
    const name = this.#name;
    const id = (part) => ({ id: `${name}-${part}`, dataset: { testid: `${name}-${part}` } });
    this.search = h("input", {
      type: "search", ...id("search"), dir: "auto", placeholder: t("console.search"), autocomplete: "off", spellcheck: "false", oninput: () => this.#render(),
    });
    this.found = h("p", { class: "sr-only", role: "status" });
    this.list = h("ul", { ...id("inbox"), "aria-label": t("console.conversationsOf", { name: title }), onkeydown: (event) => this.#moveFocus(event) });
    this.problem = h("p", { class: "problem", role: "alert", dataset: { testid: `${name}-inbox-problem` } });
    this.emptyText = h("p", {});
    this.suggestions = h("div", { class: "suggestions" });
    this.empty = h("div", { class: "soft empty" }, this.emptyText, this.suggestions);
    this.more = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => void this.#loadMore() }, t("console.showMore"));
    this.form = createNewConversationForm(name, this.#chat.me, (peer) => { this.#toggleForm(); this.#onSelect(peer); });
    this.form.addEventListener("keydown", (event) => { if (event.key === "Escape" && !event.isComposing) this.#toggleForm(); });
    this.newButton = h("button", {
      type: "button", class: "quiet round", "aria-label": t("console.newConversation"), title: t("console.newConversation"), "aria-expanded": "false",
      "aria-controls": `${name}-new`, dataset: { testid: `${name}-new-button` }, onclick: () => this.#toggleForm(),
    }, icon("plus"));
    this.element = h("nav", { class: "inbox", "aria-label": t("console.inboxOf", { name: title }) },
      h("div", { class: "search" }, icon("search"), h("label", { class: "sr-only", for: `${name}-search` }, t("console.searchConversations")), this.search, this.newButton),
      this.form, this.found, this.problem, h("div", { class: "rows" }, this.list, this.empty, this.more));
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
    reconcileChildren(this.list, matches.map((row) => this.#getElement(row)));
    this.more.hidden = !hasMore;
    this.empty.hidden = matches.length > 0;
    setText(this.emptyText, !loaded ? t("console.loading") : query ? t("console.noMatch") : t("console.noConversations"));
    this.#showSuggestions(loaded && rows.length === 0 && query === "");
    setText(this.found, query ? t("console.found", { count: matches.length, total: rows.length }) : "");
  }

  #getSearchText(row) {
    const { name, about, details } = this.#people.get(row.peer);
    return `${name} ${about} ${details} ${row.peer.user_id ?? row.peer.contact_id} ${row.last_message.content}`.toLocaleLowerCase();
  }

  #getElement(row) {
    let shown = this.#rows.get(row.conversation_id);
    if (!shown) {
      shown = new InboxRow(this.#name, this.#people, {
        select: ({ peer }) => this.#onSelect(peer),
        markAllRead: ({ peer }) => this.#markAllRead(peer),
      });
      this.#rows.set(row.conversation_id, shown);
    }
    shown.update(row, {
      key: keyOf(row.peer), isSelected: isSameParticipant(row.peer, this.#selected), isOnline: Boolean(this.#chat.cachedPresence(row.peer)?.online),
    });
    return shown.element;
  }

  /** Up and down go from row to row. */
  #moveFocus(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const buttons = [...this.list.querySelectorAll(".row")];
    const next = step && buttons[buttons.indexOf(document.activeElement) + step];
    if (!next || !document.activeElement.matches(".row")) return;
    event.preventDefault();
    next.focus();
  }

  /** In development mode an empty inbox offers the demo people, so that a first conversation needs no identifier. */
  #showSuggestions(isWanted) {
    const { me, location_id } = this.#chat;
    const isDemo = development && location_id === DEMO_LOCATION;
    const people = isWanted && isDemo ? DEMO_PEOPLE.filter((one) => !isSameParticipant(one, me) && (me.user_id !== undefined || one.user_id !== undefined)) : [];
    if (this.suggestions.querySelectorAll("button").length === people.length) return;
    this.suggestions.replaceChildren(people.length > 0 ? h("p", {}, t("console.startWith")) : "", ...people.map(({ user_id, contact_id }) => {
      const peer = user_id !== undefined ? { user_id } : { contact_id };
      const { name, details, about } = this.#people.get(peer);
      return h("button", { type: "button", class: "person-choice", dataset: { testid: `${this.#name}-start-${user_id ?? contact_id}` }, onclick: () => this.#onSelect(peer) },
        createAvatar(peer, name), h("span", { class: "names" }, h("strong", { dir: "auto" }, name), h("span", { class: "soft", dir: "auto" }, details || about)));
    }));
  }

  #toggleForm() {
    this.form.hidden = !this.form.hidden;
    this.newButton.setAttribute("aria-expanded", String(!this.form.hidden));
    if (this.form.hidden) this.newButton.focus();
    else this.form.querySelector("input").focus();
  }

  /** Also for a conversation that is not open. */
  async #markAllRead(peer) {
    setText(this.problem, "");
    const conversation = this.#chat.conversation(peer);
    try {
      await conversation.markAllRead();
    } catch (error) {
      setText(this.problem, t("console.markAllReadProblem", { problem: error.message }));
    } finally {
      conversation.close();
    }
  }
}
