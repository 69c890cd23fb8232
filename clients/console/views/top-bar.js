// The head of the page: its name, the choice of the view, and the settings.

import { h, icon } from "../dom.js";
import { t } from "../language.js";
import { createSettingsDialog } from "./settings-dialog.js";

/** The children of the bar, in the present language. @param {"one" | "both"} view The one that is shown. */
export function createTopBar(view) {
  const link = (name, text) => h("a", { href: `#${name}`, dataset: { testid: `view-${name}` }, "aria-current": name === view && "page" }, text);
  const dialog = createSettingsDialog();
  return [
    h("h1", {}, h("img", { src: "/console/icon.svg", alt: "", width: 28, height: 28 }), t("console.title")),
    h("nav", { class: "views", "aria-label": t("console.views") }, link("one", t("console.viewOne")), link("both", t("console.viewBoth"))),
    h("div", { class: "tools" },
      h("a", { href: "/docs" }, t("console.api")),
      h("button", {
        type: "button", class: "quiet round", "aria-label": t("console.settings"), title: t("console.settings"), "aria-haspopup": "dialog", dataset: { testid: "settings" },
        onclick: () => dialog.open(),
      }, icon("settings"))),
    dialog.element,
  ];
}
