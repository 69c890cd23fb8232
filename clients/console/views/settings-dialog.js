// The settings of this browser: language, theme, sound and desktop notifications. A change counts at once.

import { areNotificationsOn, notificationPermission, turnNotificationsOn } from "../attention/notifications.js";
import { playSound } from "../attention/sound.js";
import { h, icon, setText } from "../dom.js";
import { LANGUAGE_NAMES, t } from "../language.js";
import { choicesOf, getSetting, setSetting } from "../settings.js";

const THEME_KEYS = { auto: "console.themeAuto", light: "console.themeLight", dark: "console.themeDark" };
const LEVEL_KEYS = { anonymous: "console.notificationsAnonymous", names: "console.notificationsNames", content: "console.notificationsContent" };
const UNAVAILABLE_KEYS = { denied: "console.notificationsDenied", unsupported: "console.notificationsUnsupported" };

/** @returns {{ element: HTMLDialogElement, open: () => void }} */
export function createSettingsDialog() {
  const notifications = createNotificationSettings();
  const close = () => element.close();
  const element = h("dialog", { class: "settings", "aria-labelledby": "settings-title", dataset: { testid: "settings-dialog" }, onclick: (event) => { if (event.target === element) close(); } },
    h("div", { class: "content" },
      h("div", { class: "head" }, h("h2", { id: "settings-title" }, t("console.settings")),
        h("button", { type: "button", class: "quiet round", "aria-label": t("console.close"), title: t("console.close"), dataset: { testid: "settings-close" }, onclick: close }, icon("close"))),
      createSelect("language", t("console.language"), (value) => LANGUAGE_NAMES[value] ?? t("console.languageAuto")),
      createSelect("theme", t("console.theme"), (value) => t(THEME_KEYS[value])),
      createSoundSetting(),
      ...notifications.elements));
  return { element, open: () => { notifications.update(); element.showModal(); } };
}

function createSelect(name, label, describe, choices = choicesOf(name), onChange = () => {}) {
  const id = `setting-${name}`;
  const select = h("select", { id, dataset: { testid: id }, onchange: () => { setSetting(name, select.value); onChange(); } },
    ...choices.map((value) => h("option", { value, selected: value === getSetting(name) }, describe(value))));
  return h("div", { class: "setting" }, h("label", { for: id }, label), select);
}

function createSoundSetting() {
  const id = "setting-sound";
  const box = h("input", {
    type: "checkbox", id, dataset: { testid: id }, checked: getSetting("sound") === "on",
    onchange: () => { setSetting("sound", box.checked ? "on" : "off"); if (box.checked) playSound(); }, // so the user hears what it is
  });
  return h("div", { class: "setting" }, h("label", { for: id }, t("console.sound")), box);
}

/** Only a click on the button asks for the permission. */
function createNotificationSettings() {
  const text = h("p", { class: "soft", role: "status", dataset: { testid: "notifications-text" } });
  const button = h("button", { type: "button", class: "quiet", dataset: { testid: "notifications-button" }, onclick: () => void toggle() });
  const level = createSelect("notifications", t("console.notificationsShow"), (value) => t(LEVEL_KEYS[value]), choicesOf("notifications").slice(1), () => update());
  const select = level.querySelector("select");

  async function toggle() {
    if (areNotificationsOn()) setSetting("notifications", "off");
    else await turnNotificationsOn();
    update();
  }

  function update() {
    const isOn = areNotificationsOn();
    const permission = notificationPermission();
    const canAsk = permission === "default" || permission === "granted";
    if (isOn) select.value = getSetting("notifications");
    level.hidden = !isOn;
    button.hidden = !canAsk;
    setText(button, t(isOn ? "console.notificationsTurnOff" : "console.notificationsTurnOn"));
    setText(text, isOn ? t("console.notificationsHint") : canAsk ? t("console.notificationsOff") : t(UNAVAILABLE_KEYS[permission]));
  }

  const row = h("div", { class: "setting" }, h("span", { class: "label" }, t("console.notifications")), button);
  return { elements: [row, text, level], update };
}
