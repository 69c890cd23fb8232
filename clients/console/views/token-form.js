// Asks for another token when the present one ends or has ended. The chat stays as it is, so drafts and waiting messages are kept.

import { h, setText } from "../dom.js";
import { t } from "../language.js";
import { extractToken } from "../session.js";

export class TokenForm {
  #text = h("p", { role: "alert" });
  #field;

  /**
   * @param {string} name Of the pane.
   * @param {(token: string) => void} onToken Throws for a token that cannot be valid.
   */
  constructor(name, onToken) {
    const id = `${name}-again`;
    this.#field = h("input", { type: "password", id, dataset: { testid: id }, autocomplete: "off", spellcheck: "false", placeholder: "eyJ…", required: true });
    this.element = h("form", {
      class: "banner bad", hidden: true, dataset: { testid: `${name}-token-form` },
      onsubmit: (event) => {
        event.preventDefault();
        try {
          const token = extractToken(this.#field.value);
          if (!token) throw new Error(t("console.noToken"));
          onToken(token);
          this.hide();
        } catch (error) {
          setText(this.#text, error.message);
        }
      },
    }, this.#text, h("label", { for: id }, t("console.accessToken")),
    h("div", { class: "field" }, this.#field, h("button", { class: "primary" }, t("console.continue"))));
  }

  /** @param {string} reason Why a token is needed. */
  show(reason) {
    setText(this.#text, `${reason} ${t("console.giveToken")}`);
    this.element.hidden = false;
  }

  hide() {
    this.#field.value = "";
    this.element.hidden = true;
  }
}
