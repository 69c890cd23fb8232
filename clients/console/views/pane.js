// One pane of the page: the sign-in card, or the screen of the person who is signed in.

import { connect, readToken } from "/sdk/index.js";

import { h } from "../dom.js";
import { t } from "../language.js";
import { describeTokenProblem, fetchDemoToken, findTokenProblem, loadSession, saveSession } from "../session.js";
import { PersonView } from "./person-view.js";
import { resetPrivateSettings } from "../settings.js";
import { createSignInCard, PANE_KEYS } from "./sign-in.js";

export class Pane {
  #name;
  #role;
  #owner;
  #session = null;
  #chat = null;
  #view = null;
  #closed = false;

  /**
   * @param {string} name `me`, `doctor` or `patient`.
   * @param {"user" | "contact" | null} role The expected role; null allows any.
   * @param {{ onChange: () => void, onSignedIn: () => void, onDemo: (() => void) | null }} owner
   */
  constructor(name, role, owner) {
    this.#name = name;
    this.#role = role;
    this.#owner = owner;
    this.element = h("section", { class: "pane", dataset: { pane: name } });
    this.#showSignIn();
  }

  get me() {
    return this.#chat?.me ?? null;
  }

  get location_id() {
    return this.#chat?.location_id ?? null;
  }

  /** `{ count, isExact }` */
  get unread() {
    return this.#view?.unread ?? { count: 0, isExact: true };
  }

  get pending() {
    return this.#chat?.pending ?? 0;
  }

  /** Signs in with the stored session. */
  async resume() {
    const session = loadSession(this.#name);
    if (!session?.token) return;
    try {
      await this.#connect(session);
    } catch (error) {
      saveSession(this.#name, null);
      this.#showSignIn(error.message);
    }
  }

  /** Opens a conversation, unless another one is open. */
  showUnlessOpen(peer) {
    this.#view?.showUnlessOpen(peer);
  }

  focus() {
    this.#view?.focus();
  }

  /** Shows everything again in the present language. The chat goes on. */
  translate() {
    if (!this.#chat) return this.#translateSignIn();
    const { peer } = this.#view;
    const old = this.#view;
    this.#showPerson(peer);
    old.close();
  }

  /** What the user pasted stays. */
  #translateSignIn() {
    const written = [...this.element.querySelectorAll("input, textarea")].map(({ value }) => value);
    this.#showSignIn();
    for (const [index, field] of [...this.element.querySelectorAll("input, textarea")].entries()) field.value = written[index] ?? "";
  }

  close() {
    this.#closed = true;
    this.#view?.close();
    this.#chat?.close();
  }

  #showSignIn(problem = "") {
    const card = createSignInCard(this.#name, this.#role, {
      signIn: async (session) => { await this.#signIn(session); this.focus(); }, startDemo: this.#owner.onDemo,
    });
    if (problem) card.querySelector(".problem").textContent = problem;
    this.element.setAttribute("aria-label", t(PANE_KEYS[this.#name].title));
    this.element.replaceChildren(card);
  }

  /** @param {{ token: string, demo: object | null }} session */
  async #signIn(session) {
    const { me, role, locations } = readToken(session.token);
    if (!me) throw new Error(t("console.tokenOfNoPerson"));
    if (this.#role && me[`${this.#role}_id`] === undefined) throw new Error(t(role === "user" ? "console.tokenOfStaff" : "console.tokenOfPatient"));
    if (locations.length === 0) throw new Error(t("console.tokenOfNoLocation"));
    const problem = await findTokenProblem(session.token, locations[0]);
    if (problem) throw new Error(describeTokenProblem(problem, session.token));
    await this.#connect({ peer: null, ...session });
  }

  async #connect(session) {
    this.#session = session;
    const chat = await connect({
      location_id: readToken(session.token).locations[0],
      drafts: "session", // a reload keeps them; they end with the tab
      token: async (reason) => {
        if (reason !== "first" && session.demo) this.#remember(session, { token: await fetchDemoToken(session.demo) });
        return session.token; // a pasted token has no successor: the screen asks for another one
      },
    });
    if (this.#closed) return chat.close();
    this.#chat = chat;
    this.#remember(session, {});
    this.#showPerson(session.peer);
    this.#owner.onSignedIn();
  }

  /** Changes a session. It is saved unless the user has left it during a request. */
  #remember(session, change) {
    Object.assign(session, change);
    if (!this.#closed && session === this.#session) saveSession(this.#name, session);
  }

  #showPerson(peer) {
    const session = this.#session;
    this.#view = new PersonView(this.#name, this.#chat, {
      onChange: this.#owner.onChange, remember: (change) => this.#remember(session, change), getToken: () => session.token, leave: () => this.#leave(),
    });
    this.element.setAttribute("aria-label", t("console.signedIn", { name: this.#view.title }));
    this.element.replaceChildren(this.#view.element);
    if (peer) this.#view.show(peer);
  }

  /** Signs out. Drafts must not stay for the next user. */
  #leave() {
    saveSession(this.#name, null);
    resetPrivateSettings();
    this.#view.close();
    this.#chat.signOut();
    this.#view = this.#chat = this.#session = null;
    this.#showSignIn();
    this.element.querySelector("button, input")?.focus();
    this.#owner.onChange();
  }
}
