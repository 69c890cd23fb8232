// One row of the inbox: who, the last message, the number of unread messages, and the button that marks them all as read.

import { createAvatar } from "/sdk/element.js";

import { h, icon } from "../dom.js";
import { dates, t } from "../language.js";

const MAX_SHOWN = 99;

/** The number of unread messages as the badge shows it. Screen readers get the exact number. */
export const shortCount = (count) => (count > MAX_SHOWN ? `${MAX_SHOWN}+` : String(count));

export class InboxRow {
  #name;
  #people;
  #actions;
  #shown = "";
  #isMarking = false;

  /**
   * @param {string} name Of the pane.
   * @param {import("/sdk/element.js").PeopleDirectory} people
   * @param {{ select: (row: object) => void, markAllRead: (row: object) => Promise<void> }} actions
   */
  constructor(name, people, actions) {
    this.#name = name;
    this.#people = people;
    this.#actions = actions;
    this.element = h("li", { class: "entry" });
  }

  /**
   * @param {import("/sdk/index.js").InboxRow} row
   * @param {{ key: string, isSelected: boolean, isOnline: boolean }} more
   */
  update(row, { key, isSelected, isOnline }) {
    const person = this.#people.get(row.peer);
    const time = dates.formatRelative(row.last_activity_at);
    const shown = JSON.stringify([row.last_message.id, row.unread_count, isSelected, isOnline, time, person.name, person.details, person.about]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.testid : null;
    const button = this.#createButton(row, { key, isSelected, isOnline, time, person });
    const mark = row.unread_count > 0 && this.#createMark(row, person);
    this.element.replaceChildren(...[button, mark].filter(Boolean));
    if (focused) (this.element.querySelector(`[data-testid="${focused}"]`) ?? button).focus();
  }

  #createButton(row, { key, isSelected, isOnline, time, person }) {
    return h("button", {
      type: "button", class: "row", dataset: { peer: key, testid: `${this.#name}-row`, unread: row.unread_count },
      "aria-current": isSelected && "true", onclick: () => this.#actions.select(row),
    },
    h("span", { class: "disc" }, createAvatar(row.peer, person.name), isOnline && h("span", { class: "online" }, h("span", { class: "sr-only" }, t("console.online")))),
    h("span", { class: "names" },
      h("span", { class: "line" }, h("strong", { dir: "auto" }, person.name), h("time", { datetime: row.last_activity_at, class: "soft", title: dates.formatFullTime(row.last_activity_at) }, time)),
      h("span", { class: "ident soft", dir: "auto" }, person.details || person.about),
      h("span", { class: "line" },
        h("span", { class: "preview soft" }, row.mine && h("span", {}, t("console.you")), h("span", { class: "content", dir: "auto" }, row.last_message.content)),
        row.unread_count > 0 && createBadge(row.unread_count))));
  }

  #createMark(row, person) {
    const label = t("console.markAllRead", { count: row.unread_count, name: person.name });
    return h("button", {
      type: "button", class: "quiet round mark", "aria-label": label, title: label, dataset: { testid: `${this.#name}-mark-all` },
      "aria-disabled": this.#isMarking && "true", // `disabled` would take the focus
      onclick: () => void this.#markAllRead(row),
    }, icon("checks"));
  }

  async #markAllRead(row) {
    if (this.#isMarking) return;
    this.#isMarking = true;
    this.element.querySelector(".mark").setAttribute("aria-disabled", "true");
    await this.#actions.markAllRead(row);
    this.#isMarking = false;
    this.element.querySelector(".mark")?.removeAttribute("aria-disabled"); // after a failure the user may try again
  }
}

function createBadge(count) {
  return h("span", { class: "badge" },
    h("span", { "aria-hidden": "true" }, shortCount(count)), h("span", { class: "sr-only" }, t("console.unread", { count })));
}
