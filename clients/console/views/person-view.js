// The screen of one person: name and state, the inbox, and the open conversation. A narrow screen shows one of the two.

import { createAvatar, PeopleDirectory } from "/sdk/element.js";

import { Attention } from "../attention/attention.js";
import { createResolve, isSameParticipant } from "../demo-people.js";
import { h, setText } from "../dom.js";
import { dates, t } from "../language.js";
import { describeTokenProblem, findTokenProblem } from "../session.js";
import { ConnectionBar } from "./connection-bar.js";
import { InboxView } from "./inbox-view.js";
import { TokenForm } from "./token-form.js";

const TWO_COLUMNS_REM = 46; // the width that two columns need
const SHORT_REM = 30; // so low is a phone on its side: one column, up to
const SHORT_ONE_COLUMN_REM = 60;

const STATE_KEYS = {
  connecting: "console.stateConnecting", live: "console.stateLive", incomplete: "console.stateDelayed", degraded: "console.stateDelayed",
  reconnecting: "console.stateReconnecting", offline: "console.stateOffline", blocked: "console.stateBlocked", refused: "console.stateRefused", closed: "console.stateClosed",
};

export class PersonView {
  #name;
  #owner;
  #people;
  #inbox;
  #inboxView;
  #conversationElement = null; // `<ehr-chat>`
  #unsubscribeConversation = () => {};
  #conversationSlot = h("div", { class: "place", onkeydown: (event) => this.#onKey(event) });
  #state;
  #heading;
  #bar;
  #tokenForm;
  #attention;
  #refusedToken = null; // the server refused it, and there is no other
  #unsubscribe = [];

  /**
   * @param {string} name Of the pane.
   * @param {import("/sdk/index.js").Chat} chat
   * @param {{ onChange: () => void, remember: (change: object) => void, leave: () => void, getToken: () => string }} owner
   */
  constructor(name, chat, owner) {
    this.chat = chat;
    this.#name = name;
    this.#owner = owner;
    this.#people = new PeopleDirectory(createResolve(chat.location_id), { language: { t, dates } });
    this.#inbox = chat.inbox();
    this.#createElements();
    this.#attention = new Attention({
      isOnScreen: (peer) => this.#isOnScreen(peer), getName: (peer) => this.#people.get(peer).name, show: (peer) => this.show(peer, { focus: true }),
    });
    this.#observe();
    this.#showPlaceholder();
    this.#update();
    const refused = chat.retrying.find(({ error }) => error.isUnauthorized); // before this view, which may follow one in another language
    if (refused) void this.#onUnauthorized(refused.error);
  }

  /** Of the person, as the EHR resolves it. */
  get title() {
    return this.#people.get(this.chat.me).name;
  }

  get peer() {
    return this.#conversationElement?.peer ?? null;
  }

  /** `{ count, isExact }`: not exact while some rows of the inbox are not loaded. */
  get unread() {
    return { count: this.#inbox.unread, isExact: !this.#inbox.hasMore };
  }

  /** Opens the conversation with a participant. */
  show(peer, { focus = false } = {}) {
    if (!isSameParticipant(this.peer, peer)) {
      this.element.dataset.view = "conversation";
      this.#openConversation(peer);
      this.#inboxView.select(peer);
      this.#owner.remember({ peer });
      this.#update();
    }
    if (focus) this.#conversationElement.focus();
  }

  /** The same, unless another conversation is open. */
  showUnlessOpen(peer) {
    if (!this.#conversationElement) this.show(peer);
  }

  /** Moves the focus from the sign-in card to where the user goes on: the open conversation, or the inbox as soon as it is loaded. */
  focus() {
    if (this.#conversationElement) return this.#conversationElement.focus();
    this.#heading.focus();
    const focusInbox = () => {
      if (!this.#inbox.loaded) return;
      off();
      if (document.activeElement === this.#heading) this.#inboxView.focusFirst(); // unless the user has gone elsewhere
    };
    const off = this.#inbox.on("change", focusInbox);
    focusInbox();
  }

  /** Ends the view, not the chat: another view may show it in another language. */
  close() {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#closeConversation();
    this.#bar.close();
    this.#inboxView.close();
    this.#attention.close();
    this.#inbox.close();
  }

  #createElements() {
    const { chat } = this;
    const name = this.#name;
    const { name: title, about, details } = this.#people.get(chat.me);
    this.#inboxView = new InboxView(name, title, { chat, inbox: this.#inbox, people: this.#people }, (peer) => this.show(peer, { focus: true }));
    this.#state = h("span", { class: "state", role: "status", dataset: { testid: `${name}-state` } });
    this.#bar = new ConnectionBar(name, chat, () => this.#source);
    this.#tokenForm = new TokenForm(name, (token) => { chat.setToken(token); this.#owner.remember({ token }); });
    this.#heading = h("h2", { dir: "auto", tabindex: -1, dataset: { testid: `${name}-person` } }, title);
    this.element = h("div", { class: "person", dataset: { view: "inbox", columns: "1" } },
      h("header", { class: "who" },
        createAvatar(chat.me, title),
        h("div", { class: "names" }, this.#heading, h("span", { class: "soft", dir: "auto" }, `${details || about} · ${chat.location_id}`)),
        this.#state,
        h("button", { type: "button", class: "quiet", dataset: { testid: `${name}-signout` }, onclick: () => this.#signOut() }, t("console.signOut"))),
      this.#bar.element,
      this.#tokenForm.element,
      h("div", { class: "columns" }, this.#inboxView.element, this.#conversationSlot));
  }

  /** Two columns, or one at a time. */
  #layOut() {
    const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
    const width = this.element.clientWidth / rem;
    const needed = innerHeight / rem <= SHORT_REM ? SHORT_ONE_COLUMN_REM : TWO_COLUMNS_REM;
    const isOneColumn = width <= needed;
    this.element.dataset.columns = isOneColumn ? "1" : "2";
    this.#conversationElement?.toggleAttribute("back", isOneColumn);
  }

  #observe() {
    const { chat } = this;
    const resizes = new ResizeObserver(() => this.#layOut());
    resizes.observe(this.element);
    this.#unsubscribe.push(() => resizes.disconnect());
    const update = () => this.#update();
    this.#unsubscribe.push(
      this.#inbox.on("change", () => { this.#update(); this.#closeReadNotifications(); }),
      this.#inbox.on("state", update),
      chat.on("message", (event) => this.#attention.onMessage(event)),
      chat.on("expiring", ({ expires_at }) => this.#tokenForm.show(t("console.tokenExpiring", { time: dates.formatTime(expires_at) }))),
      chat.on("unauthorized", (error) => void this.#onUnauthorized(error)),
      chat.on("retrying", (works) => {
        update();
        if (this.#refusedToken === null || works.some(({ error }) => error.isUnauthorized)) return;
        this.#refusedToken = null; // there is another token, or the server accepts this one again
        this.#tokenForm.hide();
      }));
  }

  /** The connection whose state counts for the user. */
  get #source() {
    return this.#conversationElement?.conversation ?? this.#inbox;
  }

  #update() {
    const { state } = this.#source;
    this.#state.dataset.state = state;
    setText(this.#state, t(STATE_KEYS[state]));
    this.#bar.update();
    this.#owner.onChange();
  }

  /** A socket reports no more than that the token has ended. Then a request gives the reason. */
  async #onUnauthorized(error) {
    const token = this.#owner.getToken();
    this.#refusedToken = token;
    const problem = /^token_/.test(error.code) ? error : await findTokenProblem(token, this.chat.location_id) ?? error;
    if (this.#refusedToken === token) this.#tokenForm.show(describeTokenProblem(problem, token));
  }

  #isOnScreen(peer) {
    return document.visibilityState === "visible" && isSameParticipant(this.peer, peer) && this.element.dataset.view === "conversation";
  }

  #closeReadNotifications() {
    for (const { conversation_id, unread_count } of this.#inbox.rows) if (unread_count === 0) this.#attention.onRead(conversation_id);
  }

  /** Escape leaves the conversation. In an input method it ends the composition instead. */
  #onKey(event) {
    if (event.key !== "Escape" || event.defaultPrevented || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#back();
  }

  #back() {
    const { peer } = this;
    this.#closeConversation();
    this.#owner.remember({ peer: null });
    this.#inboxView.select(null);
    this.element.dataset.view = "inbox";
    this.#showPlaceholder();
    this.#update();
    if (peer) this.#inboxView.focus(peer);
  }

  #openConversation(peer) {
    this.#unsubscribeConversation();
    const element = Object.assign(document.createElement("ehr-chat"), { chat: this.chat, people: this.#people, peer });
    element.setAttribute("no-status", ""); // the bar above shows the connection
    element.addEventListener("ehr-chat-back", () => this.#back());
    this.#conversationElement = element;
    this.#conversationSlot.replaceChildren(element); // the element before closes its conversation
    this.#layOut();
    const { conversation } = element;
    const update = () => this.#update();
    const unsubscribe = conversation ? [conversation.on("state", update), conversation.on("change", update)] : []; // null: the element shows why
    this.#unsubscribeConversation = () => { for (const off of unsubscribe) off(); };
  }

  #closeConversation() {
    this.#unsubscribeConversation();
    this.#unsubscribeConversation = () => {};
    this.#conversationElement?.remove();
    this.#conversationElement = null;
  }

  #signOut() {
    if (this.chat.pending > 0 && !confirm(t("console.confirmSignOut", { count: this.chat.pending }))) return;
    this.#owner.leave();
  }

  #showPlaceholder() {
    this.#conversationSlot.replaceChildren(h("p", { class: "nothing soft" }, t("console.chooseConversation")));
  }
}
