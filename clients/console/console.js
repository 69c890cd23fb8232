// The page: its view and its theme. The view is one person's screen, or a doctor's and a patient's side by side.

import { h } from "./dom.js";
import { Pane } from "./views/pane.js";

const THEMES = ["auto", "light", "dark"];
const VIEWS = { one: [["me", "Sign in", null]], both: [["doctor", "Doctor", "user"], ["patient", "Patient", "contact"]] };

const main = document.getElementById("panes");
let panes = [];

function showView() {
  const view = location.hash === "#both" ? "both" : "one";
  for (const pane of panes) pane.close();
  main.dataset.view = view;
  panes = VIEWS[view].map(([name, title, role]) => new Pane(name, title, role, { onChange: showUnread, onSignedIn: openEachOther }));
  main.replaceChildren(...panes.map(({ element }) => element));
  for (const link of document.querySelectorAll(".views a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const pane of panes) pane.resume();
  showUnread();
}

/** Side by side, each pane opens the conversation with the other. */
function openEachOther() {
  if (panes.length !== 2) return;
  for (const [pane, other] of [panes, [...panes].reverse()]) if (other.me) pane.showUnlessOpen(other.me);
}

function showUnread() {
  const unread = panes.length === 1 ? panes[0].unread : 0;
  document.title = unread > 0 ? `(${unread}) EHR chat` : "EHR chat";
}

const themeButton = document.getElementById("theme");
function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  themeButton.textContent = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[theme];
}
themeButton.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  try { localStorage.setItem("chat-theme", next); } catch { /* a private window may refuse; the theme then lasts as long as the page */ }
  showTheme(next);
});
let theme = null;
try { theme = localStorage.getItem("chat-theme"); } catch { /* see above */ }
showTheme(THEMES.includes(theme) ? theme : "auto");

addEventListener("beforeunload", (event) => { if (panes.some((pane) => pane.pending > 0)) event.preventDefault(); });
addEventListener("hashchange", showView);
if (!("container" in document.documentElement.style)) main.before(h("p", { class: "noscript" }, "This browser is too old to show this page correctly."));
showView();
