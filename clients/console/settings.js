// What a user chose in this browser: theme, language, sound, notifications. `localStorage` keeps the choices. One choice ends with the
// tab: to show the text of messages. The next user of a shared computer has not made it.

const CHOICES = {
  theme: ["auto", "light", "dark"],
  language: ["auto", "en", "de"],
  sound: ["on", "off"],
  notifications: ["off", "anonymous", "names", "content"],
};
const TAB_ONLY = { notifications: "content" }; // the value that ends with the tab; the saved one stays as it is

const listeners = new Set();
/** Choices that a browser without storage keeps as long as the page. */
const unsaved = new Map();

function read(storage, name) {
  try { return globalThis[storage].getItem(`chat-${name}`); } catch { return null; }
}

function write(storage, name, value) {
  try {
    if (value === null) globalThis[storage].removeItem(`chat-${name}`);
    else globalThis[storage].setItem(`chat-${name}`, value);
    return true;
  } catch { return false; }
}

/** The possible values of a setting; the first one is the default. */
export const choicesOf = (name) => CHOICES[name];

export function getSetting(name) {
  const value = unsaved.get(name) ?? read("sessionStorage", name) ?? read("localStorage", name);
  return CHOICES[name].includes(value) ? value : CHOICES[name][0];
}

export function setSetting(name, value) {
  const isTabOnly = value === TAB_ONLY[name];
  const isSaved = (isTabOnly || write("localStorage", name, value)) && write("sessionStorage", name, isTabOnly ? value : null);
  if (isSaved) unsaved.delete(name);
  else unsaved.set(name, value);
  for (const listener of listeners) listener(name, value);
}

/** A user signs out. The next one has not chosen to see names or texts in notifications. */
export function resetPrivateSettings() {
  const values = [getSetting("notifications"), read("localStorage", "notifications")];
  if (values.some((value) => value === "names" || value === "content")) setSetting("notifications", "anonymous");
}

/** Calls `listener(name, value)` after each change. Returns a function that removes it. */
export function onSettingChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
