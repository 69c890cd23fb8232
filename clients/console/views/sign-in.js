// The sign-in card: a demo person, or a token of another issuer.

import { h } from "../dom.js";
import { createAvatar, DEMO_LOCATION, DEMO_PEOPLE, development } from "../demo-people.js";
import { fetchDemoToken, extractToken } from "../session.js";

/**
 * Creates the card. It shows the error that `signIn({ token, demo })` throws.
 * @param {string} name Of the pane.
 * @param {string} title
 * @param {"user" | "contact" | null} role The expected role; null allows any.
 */
export function createSignInCard(name, title, role, signIn) {
  const problem = h("p", { class: "problem", role: "alert", dataset: { testid: `${name}-error` } });
  const busy = (on) => { for (const control of card.querySelectorAll("button, input")) control.disabled = on; };

  async function attempt(getSession) {
    problem.textContent = "";
    busy(true);
    try {
      await signIn(await getSession());
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      busy(false);
    }
  }

  const people = DEMO_PEOPLE.filter((person) => role === null || person[`${role}_id`] !== undefined);
  const chooser = development && h("div", { class: "people" },
    h("h3", { id: `${name}-people` }, "Demo"),
    h("ul", { "aria-labelledby": `${name}-people` }, ...people.map((person) => h("li", {},
      h("button", {
        type: "button", class: "person-choice", dataset: { testid: `${name}-demo-${person.user_id ?? person.contact_id}` },
        onclick: () => attempt(async () => ({ token: await fetchDemoToken(person), demo: person })),
      }, createAvatar(person, DEMO_LOCATION), h("span", { class: "names" }, h("strong", {}, person.name), h("span", { class: "soft" }, person.about)))))));

  const field = h("input", {
    type: "password", id: `${name}-token`, dataset: { testid: `${name}-token` }, autocomplete: "off", spellcheck: "false",
    placeholder: "eyJ…", required: true, "aria-describedby": `${name}-token-hint`,
  });
  const form = h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      void attempt(async () => {
        const token = extractToken(field.value);
        if (!token) throw new Error("This is no access token: a token has three parts, joined by dots.");
        field.value = "";
        return { token, demo: null };
      });
    },
  },
  h("label", { for: `${name}-token` }, "Access token"),
  h("div", { class: "field" }, field, h("button", { class: "primary", dataset: { testid: `${name}-signin` } }, "Sign in")),
  h("p", { class: "soft", id: `${name}-token-hint` }, "It stays in this tab and ends with it. On the server’s machine, ",
    h("code", {}, `make token SUB=${role === "contact" ? "pat456" : "doc123"} ROLE=${role ?? "user"} LOCATION=loc1`), " prints one."));

  const card = h("div", { class: "signin" },
    h("h2", {}, title),
    h("p", { class: "soft lead" }, role === null ? "Secure messages between care team and patient." : role === "user" ? "The care team’s side of the conversation." : "The patient’s side of the conversation."),
    chooser || null, chooser ? h("p", { class: "or" }, h("span", {}, "or")) : null, form, problem);
  return card;
}
