// One pane of the page: the sign-in card, or the screen of the person who is signed in.

import { connect, readToken } from "/sdk/index.js";

import { h } from "../dom.js";
import { PersonView } from "./person-view.js";
import { fetchDemoToken, loadSession, saveSession } from "../session.js";
import { createSignInCard } from "./sign-in.js";

export class Pane {
  #name;
  #title;
  #role;
  #owner;
  #view = null;
  #closed = false;

  /**
   * @param {string} name
   * @param {string} title
   * @param {"user" | "contact" | null} role
   * @param {{ onChange: () => void, onSignedIn: () => void }} owner
   */
  constructor(name, title, role, owner) {
    this.#name = name;
    this.#title = title;
    this.#role = role;
    this.#owner = owner;
    this.element = h("section", { class: "pane", "aria-label": title, dataset: { pane: name } });
    this.#showSignIn();
  }

  get me() {
    return this.#view?.chat.me ?? null;
  }

  get unread() {
    return this.#view?.unread ?? 0;
  }

  get pending() {
    return this.#view?.chat.pending ?? 0;
  }

  /** Signs in with the stored session. */
  async resume() {
    const session = loadSession(this.#name);
    if (!session?.token) return;
    try {
      await this.#signIn(session);
    } catch (error) {
      saveSession(this.#name, null);
      this.element.querySelector(".problem").textContent = error.message;
    }
  }

  /** Opens a conversation, unless another one is open. */
  showUnlessOpen(peer) {
    this.#view?.showUnlessOpen(peer);
  }

  close() {
    this.#closed = true;
    this.#view?.close();
  }

  #showSignIn(problem = "") {
    const card = createSignInCard(this.#name, this.#title, this.#role, (session) => this.#signIn(session));
    if (problem) card.querySelector(".problem").textContent = problem;
    this.element.setAttribute("aria-label", this.#title);
    this.element.replaceChildren(card);
  }

  async #signIn({ token, demo, peer = null }) {
    const claims = readToken(token);
    if (!claims.me) throw new Error("This token does not belong to a person: `role` must be user or contact.");
    if (this.#role && claims.me[`${this.#role}_id`] === undefined) throw new Error(`This is the token of a ${claims.role === "user" ? "staff member" : "patient"}; use the other pane.`);
    if (claims.locations.length === 0) throw new Error("This token is for no location.");
    const session = { token, demo, peer };
    const remember = (change) => { Object.assign(session, change); if (!this.#closed) saveSession(this.#name, session); };
    const chat = await connect({
      location_id: claims.locations[0],
      token: async (reason) => {
        if (reason !== "first" && demo) remember({ token: await fetchDemoToken(demo) });
        return session.token; // a pasted token has no successor: the screen asks for another one
      },
    });
    if (this.#closed) return chat.close();
    remember({});
    this.#view = new PersonView(this.#name, chat, {
      onChange: this.#owner.onChange, remember,
      leave: (problem) => { saveSession(this.#name, null); this.#view.close(); this.#view = null; this.#showSignIn(problem); this.#owner.onChange(); },
    });
    this.element.setAttribute("aria-label", `${this.#title === "Sign in" ? "Signed in" : this.#title}: ${this.#view.title}`);
    this.element.replaceChildren(this.#view.element);
    if (peer) this.#view.show(peer);
    this.#owner.onSignedIn();
  }
}
