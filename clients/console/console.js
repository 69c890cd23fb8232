// The page: its view, its theme and its language. The view is one person's screen, or a doctor's and a patient's side by side.

import { DEMO_DOCTOR, DEMO_PATIENT } from "./demo-people.js";
import { h } from "./dom.js";
import { applyLanguage, t } from "./language.js";
import { fetchDemoToken, loadSession, saveSession } from "./session.js";
import { getSetting, onSettingChange } from "./settings.js";
import { Pane } from "./views/pane.js";
import { createTopBar } from "./views/top-bar.js";

const VIEWS = { one: [["me", null]], both: [["doctor", "user"], ["patient", "contact"]] };

const top = document.getElementById("top");
const main = document.getElementById("panes");
let panes = [];
let focusesWhenResumed = false; // the next view follows a click, so it takes the focus

const getView = () => (location.hash === "#both" ? "both" : "one");

/** The hash changed. Another view closes the chats of this one, so the user decides about messages that wait. */
function changeView() {
  const shown = main.dataset.view;
  if (getView() === shown) return;
  const count = panes.reduce((sum, { pending }) => sum + pending, 0);
  if (count > 0 && !confirm(t("console.confirmLeave", { count }))) {
    focusesWhenResumed = false;
    history.replaceState(null, "", shown === "both" ? "#both" : location.pathname + location.search);
    return;
  }
  showView();
}

function showView() {
  const view = getView();
  for (const pane of panes) pane.close();
  main.dataset.view = view;
  panes = VIEWS[view].map(([name, role]) => new Pane(name, role, { onChange: showUnread, onSignedIn: openEachOther, onDemo: view === "one" ? startDemo : null }));
  main.replaceChildren(...panes.map(({ element }) => element));
  showTopBar();
  showUnread();
  const [first] = panes;
  const isFocused = focusesWhenResumed;
  focusesWhenResumed = false;
  void Promise.all(panes.map((pane) => pane.resume())).then(() => { if (isFocused) first.focus(); });
}

const showTopBar = () => top.replaceChildren(...createTopBar(getView()));

/** Side by side, each pane opens the conversation with the other. */
function openEachOther() {
  if (panes.length !== 2 || panes[0].location_id !== panes[1].location_id) return; // a conversation belongs to one location
  for (const [pane, other] of [panes, [...panes].reverse()]) if (other.me) pane.showUnlessOpen(other.me);
}

/** The first chat with one click: both demo people side by side, ready to write. */
async function startDemo() {
  await Promise.all([["doctor", DEMO_DOCTOR], ["patient", DEMO_PATIENT]].map(async ([name, person]) => {
    if (!loadSession(name)) saveSession(name, { token: await fetchDemoToken(person), demo: person, peer: null });
  }));
  focusesWhenResumed = true;
  location.hash = "#both"; // `hashchange` shows the view
}

/** The title counts unread messages. `+`: there may be more, because not all rows of the inbox are loaded. */
function showUnread() {
  const { count, isExact } = panes.length === 1 ? panes[0].unread : { count: 0, isExact: true };
  document.title = count > 0 ? `(${count}${isExact ? "" : "+"}) ${t("console.title")}` : t("console.title");
}

function showTheme() {
  document.documentElement.dataset.theme = getSetting("theme");
}

onSettingChange((name) => {
  if (name === "theme") showTheme();
  if (name === "language") translate();
});

/** Everything again in the chosen language. Chats, drafts and waiting messages stay. */
function translate() {
  applyLanguage();
  const isOpen = top.querySelector("dialog")?.open;
  showTopBar();
  if (isOpen) {
    top.querySelector('[data-testid="settings"]').click();
    document.getElementById("setting-language").focus();
  }
  for (const pane of panes) pane.translate();
  showUnread();
}

addEventListener("beforeunload", (event) => { if (panes.some((pane) => pane.pending > 0)) event.preventDefault(); });
addEventListener("hashchange", changeView);
if (!("container" in document.documentElement.style)) main.before(h("p", { class: "noscript" }, t("console.oldBrowser")));
showTheme();
showView();
