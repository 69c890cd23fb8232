// The screen of one person: name and state, the inbox, and the open conversation. A narrow screen shows one of the two.

import { h, setText } from "../dom.js";
import { ConversationView } from "./conversation-view.js";
import { InboxView } from "./inbox-view.js";
import { formatTime } from "../format.js";
import { createAvatar, describeParticipant, isSameParticipant } from "../demo-people.js";
import { extractToken } from "../session.js";

const STATES = {
  connecting: "Connecting…", live: "Connected", incomplete: "Delayed", degraded: "Delayed", reconnecting: "Reconnecting…", offline: "Offline", blocked: "Delayed", refused: "No access", closed: "Offline",
};

export class PersonView {
  #name;
  #owner;
  #inbox;
  #inboxView;
  #conversationView = null;
  #conversationSlot = h("div", { class: "place" });
  #state;
  #tokenForm;
  #isRefused = false; // the server refused the token

  /**
   * @param {string} name Of the pane.
   * @param {import("/sdk/index.js").Chat} chat
   * @param {{ onChange: () => void, remember: (change: object) => void, leave: (problem?: string) => void }} owner
   */
  constructor(name, chat, owner) {
    this.chat = chat;
    this.#name = name;
    this.#owner = owner;
    this.#inbox = chat.inbox();
    const { name: title, about } = describeParticipant(chat.me, chat.location_id);
    this.title = title;
    this.#inboxView = new InboxView(name, title, chat, this.#inbox, (peer) => this.show(peer, { focus: true }));
    this.#state = h("span", { class: "state", role: "status", dataset: { testid: `${name}-state` } });
    this.#tokenForm = this.#createTokenForm();
    this.element = h("div", { class: "person", dataset: { view: "inbox" } },
      h("header", { class: "who" },
        createAvatar(chat.me, chat.location_id),
        h("div", { class: "names" }, h("h2", {}, title), h("span", { class: "soft" }, `${about} · ${chat.location_id}`)),
        this.#state,
        h("button", { type: "button", class: "quiet", dataset: { testid: `${name}-signout` }, onclick: () => this.#signOut() }, "Sign out")),
      this.#tokenForm,
      h("div", { class: "columns" }, this.#inboxView.element, this.#conversationSlot));
    this.#showPlaceholder();
    const update = () => { this.#showState(); owner.onChange(); };
    this.#inbox.on("change", update);
    this.#inbox.on("state", update);
    chat.on("expiring", ({ expires_at }) => this.#requestToken(`Your sign-in ends at ${formatTime(expires_at)}.`));
    chat.on("unauthorized", (error) => {
      this.#isRefused = true;
      this.#requestToken(`Your sign-in has ended: ${error.message}.`);
    });
    chat.on("retrying", (works) => {
      if (!this.#isRefused || works.some(({ error }) => error.isUnauthorized)) return;
      this.#isRefused = false; // there is another token, or the server accepts this one again
      this.#tokenForm.hidden = true;
    });
    update();
  }

  get unread() {
    return this.#inbox.unread;
  }

  /** Opens the conversation with a participant. */
  show(peer, { focus = false } = {}) {
    if (!isSameParticipant(this.#conversationView?.peer, peer)) {
      this.#conversationView?.close();
      const conversation = this.chat.conversation(peer);
      this.#conversationView = new ConversationView(this.#name, this.chat, conversation, { back: () => this.#back() });
      conversation.on("state", () => this.#showState());
      this.#conversationSlot.replaceChildren(this.#conversationView.element);
      this.#inboxView.select(peer);
      this.#owner.remember({ peer });
      this.#showState();
    }
    this.element.dataset.view = "conversation";
    this.#conversationView.onShown();
    if (focus) this.#conversationView.focus();
  }

  /** The same, unless another conversation is open. */
  showUnlessOpen(peer) {
    if (!this.#conversationView) this.show(peer);
  }

  close() {
    this.#conversationView?.close();
    this.#inboxView.close();
    this.chat.close();
  }

  #back() {
    const peer = this.#conversationView?.peer;
    this.#conversationView?.close();
    this.#conversationView = null;
    this.#owner.remember({ peer: null });
    this.#inboxView.select(null);
    this.element.dataset.view = "inbox";
    this.#showPlaceholder();
    this.#showState();
    if (peer) this.#inboxView.focus(peer);
  }

  #signOut() {
    if (this.chat.pending > 0 && !confirm("Messages that are not sent yet will be lost. Sign out?")) return;
    this.#owner.leave();
  }

  #showPlaceholder() {
    this.#conversationSlot.replaceChildren(h("p", { class: "nothing soft" }, "Choose a conversation, or start a new one."));
  }

  /** Shows the state of the open conversation, or else of the inbox. */
  #showState() {
    const state = this.#conversationView?.conversation.state ?? this.#inbox.state;
    // The SDK polls a server that cannot stream the inbox. To the user that is "connected".
    const isPolled = this.#inbox.loaded && !this.#inbox.retrying.some(({ work }) => work === "inbox");
    const shown = !this.#conversationView && state !== "refused" && isPolled ? "live" : state;
    this.#state.dataset.state = shown;
    setText(this.#state, STATES[shown]);
  }

  /** The token ends, and only the user can give another one. */
  #requestToken(why) {
    setText(this.#tokenForm.querySelector("p"), `${why} Give another token to go on. Your messages are kept.`);
    this.#tokenForm.hidden = false;
  }

  #createTokenForm() {
    const field = h("input", { type: "password", id: `${this.#name}-again`, dataset: { testid: `${this.#name}-again` }, autocomplete: "off", spellcheck: "false", placeholder: "eyJ…", required: true });
    return h("form", {
      class: "banner bad", hidden: true,
      onsubmit: (event) => {
        event.preventDefault();
        const token = extractToken(field.value);
        try {
          if (!token) throw new Error("This is no access token: a token has three parts, joined by dots.");
          this.chat.setToken(token);
          this.#owner.remember({ token });
          field.value = "";
          this.#tokenForm.hidden = true;
        } catch (error) {
          setText(this.#tokenForm.querySelector("p"), error.message);
        }
      },
    }, h("p", { role: "alert" }), h("label", { for: `${this.#name}-again` }, "Access token"),
    h("div", { class: "field" }, field, h("button", { class: "primary" }, "Go on")));
  }
}
