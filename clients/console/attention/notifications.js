// Desktop notifications. They show that there is a new message, and no more by default: other people see the screen, and the system keeps
// notifications after the page is closed. The user may add the sender's name, and separately the text.

import { getSetting, setSetting } from "../settings.js";

/** `unsupported`, or the browser's answer: `default` (not asked yet), `granted`, `denied`. */
export const notificationPermission = () => globalThis.Notification?.permission ?? "unsupported";

export const areNotificationsOn = () => getSetting("notifications") !== "off" && notificationPermission() === "granted";

/**
 * Turns notifications on. Call it for a click only: a browser punishes a page that asks by itself.
 * @returns {Promise<string>} The permission.
 */
export async function turnNotificationsOn() {
  if (notificationPermission() === "unsupported") return "unsupported";
  const permission = await Notification.requestPermission();
  if (permission === "granted" && getSetting("notifications") === "off") setSetting("notifications", "anonymous");
  return permission;
}

export class Notifications {
  /** @type {Map<string, Notification>} By conversation. */
  #shown = new Map();

  /**
   * @param {string} conversation A later notification of the same conversation replaces this one.
   * @param {{ anonymous: string, from: string, content: string, title: string }} texts
   * @param {() => void} onClick
   */
  show(conversation, texts, onClick) {
    if (!areNotificationsOn()) return;
    const level = getSetting("notifications");
    const title = level === "anonymous" ? texts.anonymous : texts.from;
    const body = level === "content" ? texts.content : "";
    let shown;
    try {
      shown = new Notification(title, { body, tag: `chat-${conversation}`, icon: "/console/icon.svg", dir: "auto", renotify: true, silent: true });
    } catch {
      return; // Chrome on Android allows notifications of service workers only
    }
    shown.onclick = () => { window.focus(); shown.close(); onClick(); };
    shown.onclose = () => { if (this.#shown.get(conversation) === shown) this.#shown.delete(conversation); };
    this.#shown.set(conversation, shown);
  }

  /** The user has seen the conversation. */
  close(conversation) {
    this.#shown.get(conversation)?.close();
    this.#shown.delete(conversation);
  }

  closeAll() {
    for (const conversation of [...this.#shown.keys()]) this.close(conversation);
  }
}
