// `<ehr-chat>`: one conversation of a connected chat, as a custom element. README.md lists its properties, attributes, events, parts and
// variables.

import { PeopleDirectory } from "./people/people-directory.js";
import { keyOfPerson } from "./people/person-key.js";
import { createLanguage } from "./strings/index.js";
import { getSheet } from "./styles/index.js";
import { ConversationView } from "./view/conversation-view.js";

/** @typedef {import("ehr-chat-client").Chat} Chat */
/** @typedef {import("ehr-chat-client").Conversation} Conversation */
/** @typedef {import("ehr-chat-client").Participant} Participant */
/** @typedef {import("./people/people-directory.js").Resolve} Resolve */
/** @typedef {Partial<import("./strings/index.js").Texts>} Strings */
/** @typedef {ReturnType<typeof createLanguage> & { lang: string, strings: Strings }} Language */

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
  /** @type {{ resolve: Resolve | null, language: Language, directory: PeopleDirectory } | null} */
  #ownPeople = null;
  /** @type {Conversation | null} */
  #conversation = null;
  /** @type {ConversationView | null} */
  #view = null;
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

  /** Gives name, birth date and record number of a participant, at once or as a promise. */
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
    const isShown = this.isConnected && this.#chat !== null && this.#peer !== null;
    const lang = this.#getLang();
    const wanted = isShown && this.#peer ? [this.#chat, keyOfPerson(this.#peer), this.#people ?? this.#resolve, this.#strings, lang] : [];
    if (wanted.length === this.#shown.length && wanted.every((value, index) => value === this.#shown[index])) return;
    this.#shown = wanted;
    const before = this.#conversation; // closed after the next one is open, which may be the same
    this.#view?.close();
    this.#view = null;
    this.#conversation = null;
    if (isShown && this.#chat && this.#peer) this.#open(this.#chat, this.#peer, lang);
    before?.close();
    if (!isShown) this.#placeholder.textContent = this.#getLanguage(lang).t("conversation.none");
    this.#root.replaceChildren(/** @type {ConversationView | null} */ (this.#view)?.element ?? this.#placeholder);
  }

  /** @param {Chat} chat @param {Participant} peer @param {string} lang */
  #open(chat, peer, lang) {
    const language = this.#getLanguage(lang);
    const people = this.#people ?? this.#getOwnPeople(language);
    this.#conversation = chat.conversation(peer);
    this.#view = new ConversationView({ chat, people, t: language.t, dates: language.dates }, this.#conversation, () => {
      this.dispatchEvent(new CustomEvent("ehr-chat-back", { bubbles: true, composed: true }));
    });
  }

  /** Kept while the peers change: a language is costly to create. @param {string} lang */
  #getLanguage(lang) {
    if (this.#language?.lang !== lang || this.#language.strings !== this.#strings) {
      this.#language = { lang, strings: this.#strings, ...createLanguage(lang ? [lang] : undefined, this.#strings) };
    }
    return this.#language;
  }

  /** Kept while the peers change, with all answers. @param {Language} language */
  #getOwnPeople(language) {
    if (this.#ownPeople?.resolve !== this.#resolve || this.#ownPeople.language !== language) {
      this.#ownPeople = { resolve: this.#resolve, language, directory: new PeopleDirectory(this.#resolve, { language }) };
    }
    return this.#ownPeople.directory;
  }

  /** The element's own language or that of the page around it; "" for the browser's. */
  #getLang() {
    return this.lang || this.closest("[lang]")?.getAttribute("lang") || "";
  }
}
