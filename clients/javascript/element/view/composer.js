// The form to write a message with. Its text is the conversation's draft. It never sends more characters than a message may have, and
// never while an input method composes.

import { h, icon, setText } from "../dom.js";

/** @typedef {import("./context.js").Context} Context */

const MAX_CHARACTERS = 8_000;
const SHOW_COUNT_BELOW = 500; // characters left
const MAX_ROWS = 6;
const CHARACTERS_PER_ROW = 60;
const UNSENT_CODES = ["invalid_argument", "outbox_full", "closed"]; // no message shows these failures
const INPUT_METHOD_KEY_CODE = 229;

export class Composer {
  #context;
  #conversation;
  #onSend;
  #input;
  #count;
  #button;
  #label = h("label", { class: "sr-only", for: "input" });
  /** The draft that the input shows. */
  #draft = "";

  /**
   * @param {Context} context
   * @param {import("ehr-chat-client").Conversation} conversation
   * @param {(content: string) => Promise<unknown>} onSend
   */
  constructor(context, conversation, onSend) {
    this.#context = context;
    this.#conversation = conversation;
    this.#onSend = onSend;
    const { t } = context;
    this.#input = h("textarea", {
      id: "input", part: "input", dir: "auto", rows: 1, placeholder: t("composer.placeholder"), enterkeyhint: "send", "aria-describedby": "count",
      oninput: () => this.#onInput(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onKeyDown(event),
    });
    this.#count = h("p", { class: "count soft", id: "count", role: "status" });
    this.#button = h("button", { class: "primary round", part: "send", "aria-label": t("composer.send"), title: t("composer.send") }, icon("send"));
    this.element = h("form", { class: "compose", part: "composer", onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); this.#send(); } },
      this.#label, this.#input, this.#button, this.#count);
    this.showDraft();
  }

  focus() {
    this.#input.focus();
  }

  /** @param {string} name */
  setPeerName(name) {
    setText(this.#label, this.#context.t("composer.label", { name }));
  }

  /** @param {boolean} isEnabled */
  setEnabled(isEnabled) {
    this.#input.disabled = this.#button.disabled = !isEnabled;
  }

  /** Another view of the same conversation may have changed the draft. */
  showDraft() {
    const { draft } = this.#conversation;
    if (draft === this.#draft) return;
    this.#draft = draft;
    this.#input.value = draft;
    this.#resize();
  }

  #onInput() {
    this.#draft = this.#input.value;
    this.#conversation.setDraft(this.#draft);
    this.#resize();
    if (this.#draft) this.#conversation.typing();
  }

  /**
   * Enter sends, but not the Enter that ends a composition: it chooses a word. Most browsers say `isComposing`. Safari reports the key
   * after the end of the composition, and then only the key code tells.
   * @param {KeyboardEvent} event
   */
  #onKeyDown(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === INPUT_METHOD_KEY_CODE) return;
    event.preventDefault();
    this.#send();
  }

  #send() {
    const content = this.#input.value.trim();
    if (content === "" || [...content].length > MAX_CHARACTERS || this.#input.disabled) return;
    this.#onSend(content).catch((error) => { if (UNSENT_CODES.includes(error.code)) setText(this.#count, error.message); });
    this.#input.focus();
    this.showDraft(); // the SDK keeps the draft of what it does not accept
  }

  #resize() {
    const { value } = this.#input;
    const length = value.length > MAX_CHARACTERS - SHOW_COUNT_BELOW ? [...value].length : value.length;
    const isLong = length > MAX_CHARACTERS - SHOW_COUNT_BELOW;
    setText(this.#count, isLong ? this.#context.t("composer.count", { count: length, limit: MAX_CHARACTERS }) : "");
    this.#count.classList.toggle("bad", length > MAX_CHARACTERS);
    const lines = Math.max(value.split("\n", MAX_ROWS + 1).length, Math.ceil(length / CHARACTERS_PER_ROW));
    this.#input.rows = Math.min(lines, MAX_ROWS) || 1;
  }
}
