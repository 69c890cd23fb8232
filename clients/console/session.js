// Who is signed in here. Kept in `sessionStorage`: it lives through a reload, and ends with the tab; other tabs and the
// disk never see it. A token in `localStorage` would outlive whoever sat at this computer; one in a URL would be in histories.

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
  } catch { /* a browser that refuses: it lasts as long as the page */ }
}

/** A token for somebody of the demonstration. Development mode only: elsewhere there is no such thing. */
export async function fetchDemoToken(person) {
  const [sub, role] = person.user_id !== undefined ? [person.user_id, "user"] : [person.contact_id, "contact"];
  const answer = await fetch("/dev/token", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ sub, role, location_id: DEMO_LOCATION }),
    credentials: "omit", cache: "no-store",
  });
  if (!answer.ok) throw new Error(`There are no demonstration tokens here (${answer.status}).`);
  return (await answer.json()).token;
}

/** What was pasted, as a token; null when it is none. */
export function extractToken(text) {
  const token = text.trim().replace(/^bearer\s+/i, "");
  return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token) ? token : null;
}
