// The session of each pane, in `sessionStorage`. It survives a reload and ends with the tab. Other tabs and the disk never see it. A token
// in `localStorage` would stay on a shared computer. A token in a URL would stay in histories.

import { DEMO_LOCATION } from "./demo-people.js";

const key = (name) => `chat-session-${name}`;

/** `{ token, demo, peer }`, or null. */
export function loadSession(name) {
  try { return JSON.parse(sessionStorage.getItem(key(name))); } catch { return null; }
}

export function saveSession(name, session) {
  try {
    if (session) sessionStorage.setItem(key(name), JSON.stringify(session));
    else sessionStorage.removeItem(key(name));
  } catch { /* the browser refuses; the session then lasts as long as the page */ }
}

/** Requests a token for a demo person. Only development mode offers this. */
export async function fetchDemoToken(person) {
  const [sub, role] = person.user_id !== undefined ? [person.user_id, "user"] : [person.contact_id, "contact"];
  const response = await fetch("/dev/token", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ sub, role, location_id: DEMO_LOCATION }),
    credentials: "omit", cache: "no-store",
  });
  if (!response.ok) throw new Error(`This server gives no demo tokens (${response.status}).`);
  return (await response.json()).token;
}

/** The token in a pasted text; null if there is none. */
export function extractToken(text) {
  const token = text.trim().replace(/^bearer\s+/i, "");
  return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token) ? token : null;
}
