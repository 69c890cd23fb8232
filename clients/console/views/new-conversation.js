// The form for a new conversation: the identifier of a participant. In development mode it also offers the demo people.

import { h, setText } from "../dom.js";
import { isSameParticipant } from "../demo-people.js";
import { t } from "../language.js";

const IDENTIFIER = /^[A-Za-z0-9._~-]{1,64}$/; // the server's rule

/**
 * @param {string} name Of the pane.
 * @param {import("/sdk/index.js").Participant} me
 * @param {(peer: import("/sdk/index.js").Participant) => void} onOpen
 */
export function createNewConversationForm(name, me, onOpen) {
  const isStaff = me.user_id !== undefined;
  const problem = h("p", { class: "problem", role: "alert" });
  const kind = h("select", { id: `${name}-new-kind` },
    isStaff && h("option", { value: "contact_id" }, t("console.patient")), h("option", { value: "user_id" }, t("console.staff")));
  const identifier = h("input", {
    id: `${name}-new-id`, dataset: { testid: `${name}-new-id` }, required: true, maxlength: 64, autocomplete: "off", spellcheck: "false",
  });
  const form = h("form", {
    class: "new", id: `${name}-new`, hidden: true,
    onsubmit: (event) => {
      event.preventDefault();
      const id = identifier.value.trim();
      const peer = { [kind.value]: id };
      if (!IDENTIFIER.test(id)) return setText(problem, t("console.badIdentifier"));
      if (isSameParticipant(peer, me)) return setText(problem, t("console.thatIsYou"));
      setText(problem, "");
      identifier.value = "";
      onOpen(peer);
    },
  },
  h("label", { for: `${name}-new-kind` }, t("console.with")), h("label", { for: `${name}-new-id` }, t("console.identifier")),
  kind, identifier, h("button", { class: "primary", dataset: { testid: `${name}-new-open` } }, t("console.open")), problem);
  return form;
}
