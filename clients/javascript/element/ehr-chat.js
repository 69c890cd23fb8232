// `<ehr-chat>`: one conversation of a connected chat, as a custom element. README.md lists its properties, attributes, events, parts and
// variables.

import { h, upgradeProperties } from "./dom.js";
import { PeopleDirectory } from "./people/people-directory.js";
import { createLanguage } from "./strings/index.js";
import { getSheet } from "./styles/index.js";
import { ConversationView } from "./view/conversation-view.js";

/** @typedef {import("ehr-chat-client").Chat} Chat */
/** @typedef {import("ehr-chat-client").Conversation} Conversation */
/** @typedef {import("ehr-chat-client").Participant} Participant */
/** @typedef {import("./people/people-directory.js").Resolve} Resolve */
/** @typedef {Partial<import("./strings/index.js").Texts>} Strings */
/** @typedef {ReturnType<typeof createLanguage> & { lang: string, strings: string }} Language */

export class EhrChat extends HTMLElement {
  static observedAttributes = ["lang"];

  /** @type {Chat | null} */
  #chat = null;
  /** @type {Participant | null} */
  #peer = null;
  /** @type {Resolve | null} */
  #resolve = null;
  /** @type {PeopleDirectory | null} */
  #people = null;
  /** @type {Strings} */
  #strings = {};
  /** @type {Language | null} */
  #language = null;
  /** @type {{ chat: Chat, language: Language, hasResolve: boolean, directory: PeopleDirectory } | null} */
  #ownPeople = null;
  /** @type {Conversation | null} */
  #conversation = null;
  /** @type {ConversationView | null} */
  #view = null;
  #unsubscribe = () => {};
  #root;
  #placeholder = document.createElement("slot");
  /** What the view was made for. @type {unknown[]} */
  #shown = [null];
  #isUpdateScheduled = false;

  constructor() {
    super();
    this.#root = this.attachShadow({ mode: "open", delegatesFocus: false });
    this.#root.adoptedStyleSheets = [getSheet()];
    this.#root.append(this.#placeholder);
  }

  /** The connected chat. The page keeps it, and closes it. @returns {Chat | null} */
  get chat() {
    return this.#chat;
  }

  /** @param {Chat | null} chat */
  set chat(chat) {
    this.#chat = chat ?? null;
    this.#scheduleUpdate();
  }

  /** Whom the conversation is with: `{ user_id }` or `{ contact_id }`. Null closes the conversation. @returns {Participant | null} */
  get peer() {
    return this.#peer;
  }

  /** @param {Participant | null} peer */
  set peer(peer) {
    this.#peer = peer ?? null;
    this.#scheduleUpdate();
  }

  /**
   * Gives name, birth date and record number of a participant, at once or as a promise. Another function answers the next questions, and
   * the answers of the former one stay.
   */
  get resolve() {
    return this.#resolve;
  }

  set resolve(resolve) {
    this.#resolve = resolve ?? null;
    this.#people = null;
    this.#scheduleUpdate();
  }

  /** A directory that the page shares with its own views, in place of `resolve`. */
  get people() {
    return this.#people;
  }

  set people(people) {
    this.#people = people ?? null;
    this.#scheduleUpdate();
  }

  /** Texts that replace those of the language. */
  get strings() {
    return this.#strings;
  }

  set strings(strings) {
    this.#strings = strings ?? {};
    this.#scheduleUpdate();
  }

  /** The open conversation, or null. */
  get conversation() {
    this.#update();
    return this.#conversation;
  }

  connectedCallback() {
    upgradeProperties(this, ["chat", "peer", "resolve", "people", "strings"]);
    this.#scheduleUpdate();
  }

  disconnectedCallback() {
    this.#scheduleUpdate(); // not at once: the page may only move the element
  }

  attributeChangedCallback() {
    this.#scheduleUpdate();
  }

  /** Moves the focus to where the reader writes, or to the name on a touch screen. @override */
  focus() {
    this.#update();
    this.#view?.focus();
  }

  /** Several changes of one turn update the view once. */
  #scheduleUpdate() {
    if (this.#isUpdateScheduled) return;
    this.#isUpdateScheduled = true;
    queueMicrotask(() => this.#update());
  }

  #update() {
    this.#isUpdateScheduled = false;
    const language = this.#getLanguage();
    const wanted = this.#getWanted(language);
    if (wanted.length === this.#shown.length && wanted.every((value, index) => value === this.#shown[index])) return;
    this.#shown = wanted;
    const before = this.#conversation; // closed after the next one is open, which may be the same
    this.#dropView(); // also if the next one cannot be opened: a message must not go to the peer of before
    try {
      if (wanted.length > 0) this.#open(language);
    } catch (error) {
      this.#dropView();
      this.#shown = [null]; // the page may set the same values again
      this.#showProblem(error);
    } finally {
      before?.close();
    }
  }

  /** What to make the view for; empty for none. Another `resolve` needs no other view. @param {Language} language */
  #getWanted(language) {
    if (!this.isConnected || !this.#chat || !this.#peer) return [];
    return [this.#chat, this.#peer.user_id, this.#peer.contact_id, this.#people ?? (this.#resolve !== null), language];
  }

  /** @param {Language} language */
  #open(language) {
    const chat = /** @type {Chat} */ (this.#chat);
    const people = this.#people ?? this.#getOwnPeople(chat, language);
    const conversation = chat.conversation(/** @type {Participant} */ (this.#peer));
    try {
      this.#view = new ConversationView({ chat, people, t: language.t, dates: language.dates }, conversation, () => {
        this.dispatchEvent(new CustomEvent("ehr-chat-back", { bubbles: true, composed: true }));
      });
    } catch (error) {
      conversation.close();
      throw error;
    }
    this.#conversation = conversation;
    this.#unsubscribe = conversation.on("state", (state) => { if (state === "closed") this.#dropView(); });
    this.#root.replaceChildren(this.#view.element);
  }

  /** Shows the page's own content in place of the conversation. What the participant began to write stays with the conversation. */
  #dropView() {
    this.#unsubscribe();
    this.#unsubscribe = () => {};
    this.#view?.close();
    this.#view = null;
    this.#conversation = null;
    this.#placeholder.textContent = this.#getLanguage().t("conversation.none");
    this.#root.replaceChildren(this.#placeholder);
  }

  /** @param {unknown} error */
  #showProblem(error) {
    const problem = error instanceof Error ? error.message : String(error);
    this.#root.replaceChildren(h("p", { class: "nothing soft", part: "placeholder", role: "alert" }, this.#getLanguage().t("conversation.problem", { problem })));
  }

  /** Kept while the peers change, and while the texts stay the same in content: a language is costly to create. */
  #getLanguage() {
    const lang = this.#getLang();
    const strings = JSON.stringify(this.#strings);
    if (this.#language?.lang !== lang || this.#language.strings !== strings) {
      this.#language = { lang, strings, ...createLanguage(lang ? [lang] : undefined, this.#strings) };
    }
    return this.#language;
  }

  /** Kept while the peers change, with all answers. Another chat may know other people. @param {Chat} chat @param {Language} language */
  #getOwnPeople(chat, language) {
    const hasResolve = this.#resolve !== null;
    if (this.#ownPeople?.chat !== chat || this.#ownPeople.language !== language || this.#ownPeople.hasResolve !== hasResolve) {
      const directory = new PeopleDirectory(hasResolve ? (person) => this.#resolve?.(person) : null, { language });
      this.#ownPeople = { chat, language, hasResolve, directory };
    }
    return this.#ownPeople.directory;
  }

  /** The element's own language or that of the page around it; "" for the browser's. */
  #getLang() {
    return this.lang || this.closest("[lang]")?.getAttribute("lang") || "";
  }
}
