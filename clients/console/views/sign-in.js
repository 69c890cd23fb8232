// The sign-in card: a demo person, or a token of another issuer.

import { createAvatar, PeopleDirectory } from "/sdk/element.js";

import { DEMO_LOCATION, DEMO_PEOPLE, createResolve, development } from "../demo-people.js";
import { h } from "../dom.js";
import { dates, t } from "../language.js";
import { extractToken, fetchDemoToken } from "../session.js";

export const PANE_KEYS = {
  me: { title: "console.signIn", lead: "console.lead" },
  doctor: { title: "console.doctor", lead: "console.leadDoctor" },
  patient: { title: "console.patient", lead: "console.leadPatient" },
};

/**
 * Creates the card. It shows the error that `signIn` or `startDemo` throws.
 * @param {string} name Of the pane.
 * @param {"user" | "contact" | null} role The expected role; null allows any.
 * @param {{ signIn: (session: { token: string, demo: object | null }) => Promise<void>, startDemo: (() => Promise<void>) | null }} actions
 */
export function createSignInCard(name, role, { signIn, startDemo }) {
  const problem = h("p", { class: "problem", role: "alert", dataset: { testid: `${name}-error` } });

  async function attempt(run) {
    const focused = document.activeElement;
    problem.textContent = "";
    setBusy(true); // takes the focus from the control
    try {
      await run();
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      setBusy(false);
      if (document.activeElement === document.body) focused.focus();
    }
  }

  const setBusy = (isBusy) => { for (const control of card.querySelectorAll("button, input")) control.disabled = isBusy; };
  const card = h("div", { class: "signin" },
    h("h2", {}, t(PANE_KEYS[name].title)), h("p", { class: "soft lead" }, t(PANE_KEYS[name].lead)),
    ...(development ? createDemoChoice(name, role, { attempt, signIn, startDemo }) : []),
    createTokenForm(name, role, { attempt, signIn }), problem);
  return card;
}

/** The whole demo with one click, or one of its people. */
function createDemoChoice(name, role, { attempt, signIn, startDemo }) {
  const people = new PeopleDirectory(createResolve(DEMO_LOCATION), { language: { t, dates } });
  const createChoice = (demo) => {
    const { name: title, about, details } = people.get(demo);
    return h("li", {}, h("button", {
      type: "button", class: "person-choice", dataset: { testid: `${name}-demo-${demo.user_id ?? demo.contact_id}` },
      onclick: () => attempt(async () => signIn({ token: await fetchDemoToken(demo), demo })),
    }, createAvatar(demo, title), h("span", { class: "names" }, h("strong", { dir: "auto" }, title), h("span", { class: "soft", dir: "auto" }, details || about))));
  };
  return [
    startDemo && h("button", { type: "button", class: "primary start", dataset: { testid: "start-demo" }, onclick: () => attempt(startDemo) }, t("console.startDemo")),
    h("div", { class: "people" },
      h("h3", { id: `${name}-people` }, t(startDemo ? "console.orOneDemoPerson" : "console.demoPeople")),
      h("ul", { "aria-labelledby": `${name}-people` }, ...DEMO_PEOPLE.filter((demo) => role === null || demo[`${role}_id`] !== undefined).map(createChoice))),
    h("p", { class: "or" }, h("span", {}, t("console.or"))),
  ];
}

function createTokenForm(name, role, { attempt, signIn }) {
  const id = `${name}-token`;
  const field = h("input", {
    type: "password", id, dataset: { testid: id }, autocomplete: "off", spellcheck: "false", placeholder: "eyJ…", required: true, "aria-describedby": `${id}-hint`,
  });
  return h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      void attempt(async () => {
        const token = extractToken(field.value);
        if (!token) throw new Error(t("console.noToken"));
        await signIn({ token, demo: null });
      });
    },
  },
  h("label", { for: id }, t("console.accessToken")),
  h("div", { class: "field" }, field, h("button", { class: "primary", dataset: { testid: `${name}-signin` } }, t("console.signIn"))),
  h("p", { class: "soft", id: `${id}-hint` }, t("console.tokenHint"), " ",
    h("code", {}, `make token SUB=${role === "contact" ? "pat456" : "doc123"} ROLE=${role ?? "user"} LOCATION=loc1`)));
}
