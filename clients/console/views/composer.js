// The form to write a message with. It keeps its draft and never sends more characters than a message may have.

import { h, icon, setText } from "../dom.js";

const MAX_CHARACTERS = 8_000;
const SHOW_COUNT_BELOW = 500; // characters left
const MAX_ROWS = 6;
const CHARACTERS_PER_ROW = 60;

export class Composer {
  #onSend;
  #input;
  #count;
  #button;

  /**
   * @param {string} name Of the pane.
   * @param {string} peerName
   * @param {{ onSend: (content: string) => void, onTyping: () => void }} owner
   */
  constructor(name, peerName, { onSend, onTyping }) {
    this.#onSend = onSend;
    this.#input = h("textarea", {
      id: `${name}-input`, dataset: { testid: `${name}-input` }, rows: 1, placeholder: "Write a message", enterkeyhint: "send", "aria-describedby": `${name}-count`,
      oninput: () => { this.#resize(); if (this.#input.value) onTyping(); },
      onkeydown: (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        this.#send();
      },
    });
    this.#count = h("p", { class: "count soft", id: `${name}-count`, role: "status" });
    this.#button = h("button", { class: "primary round", "aria-label": "Send", title: "Send", dataset: { testid: `${name}-send` } }, icon("send"));
    this.element = h("form", { class: "compose", onsubmit: (event) => { event.preventDefault(); this.#send(); } },
      h("label", { class: "sr-only", for: `${name}-input` }, `Message to ${peerName}`), this.#input, this.#button, this.#count);
  }

  focus() {
    this.#input.focus();
  }

  /** @param {boolean} isEnabled */
  setEnabled(isEnabled) {
    this.#input.disabled = this.#button.disabled = !isEnabled;
  }

  #send() {
    const content = this.#input.value.trim();
    if (content === "" || [...content].length > MAX_CHARACTERS || this.#input.disabled) return;
    this.#input.value = "";
    this.#resize();
    this.#input.focus();
    this.#onSend(content);
  }

  #resize() {
    const { length } = [...this.#input.value];
    setText(this.#count, length > MAX_CHARACTERS - SHOW_COUNT_BELOW ? `${length} of ${MAX_CHARACTERS} characters` : "");
    this.#count.classList.toggle("bad", length > MAX_CHARACTERS);
    const lines = Math.max(this.#input.value.split("\n").length, Math.ceil(length / CHARACTERS_PER_ROW));
    this.#input.rows = Math.min(lines, MAX_ROWS) || 1;
  }
}
