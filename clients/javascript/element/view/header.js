// Who the conversation is with: the name, what tells people of the same name apart, and the presence.

import { h, icon, setText } from "../dom.js";
import { createAvatar } from "../people/avatar.js";

export class Header {
  #context;
  #peer;
  #avatar;
  #details = h("span", { class: "soft", part: "details", dir: "auto" });
  #presence = h("span", { class: "soft", part: "presence" });

  /**
   * @param {import("./context.js").Context} context
   * @param {import("ehr-chat-client").Participant} peer
   * @param {() => void} onBack
   */
  constructor(context, peer, onBack) {
    this.#context = context;
    this.#peer = peer;
    this.#avatar = createAvatar(peer, "");
    const { t } = context;
    this.heading = h("h2", { part: "name", tabindex: -1, dir: "auto" });
    this.element = h("header", { part: "header" },
      h("button", { type: "button", class: "quiet round back", part: "back", "aria-label": t("conversation.back"), title: t("conversation.back"), onclick: onBack }, icon("back")),
      this.#avatar,
      h("div", { class: "names" }, this.heading, h("span", { class: "about" }, this.#details, this.#presence)));
  }

  /** @param {import("ehr-chat-client").Presence | null} presence */
  update(presence) {
    const { people, t, dates } = this.#context;
    const { name, about, details } = people.get(this.#peer);
    if (this.heading.textContent !== name) {
      const avatar = createAvatar(this.#peer, name);
      this.#avatar.replaceWith(avatar);
      this.#avatar = avatar;
    }
    setText(this.heading, name);
    setText(this.#details, details || about);
    setText(this.#presence, presence?.online ? t("person.online") : presence?.last_seen_at ? dates.formatLastSeen(presence.last_seen_at) : "");
    this.#presence.classList.toggle("is-online", Boolean(presence?.online));
  }
}
