// The session of each pane, in `sessionStorage`. It survives a reload and ends with the tab. Other tabs and the disk never see it. A token
// in `localStorage` would stay on a shared computer. A token in a URL would stay in histories.

import { readToken } from "/sdk/index.js";

import { DEMO_LOCATION } from "./demo-people.js";
import { dates, t } from "./language.js";

const CHECK_TIMEOUT_MS = 10_000;

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
  if (!response.ok) throw new Error(t("console.noDemoTokens", { status: response.status }));
  return (await response.json()).token;
}

/** The token in a pasted text; null if there is none. */
export function extractToken(text) {
  const token = text.trim().replace(/^bearer\s+/i, "");
  return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token) ? token : null;
}

/**
 * Why the server refuses a token: `{ code, message }`. Null if it accepts the token, or if the server does not answer: then the chat
 * retries, and reports a refusal later.
 */
export async function findTokenProblem(token, location_id) {
  try {
    const response = await fetch(`/chat/conversations?${new URLSearchParams({ location_id, limit: "1" })}`, {
      headers: { Authorization: `Bearer ${token}` }, credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(CHECK_TIMEOUT_MS),
    });
    if (response.status !== 401 || !response.headers.get("Content-Type")?.startsWith("application/problem+json")) return null;
    const { code, detail } = await response.json();
    return { code, message: detail };
  } catch {
    return null;
  }
}

/** Says that a token has expired, was revoked, or is wrong. @param {{ code?: string, message: string }} problem */
export function describeTokenProblem({ code, message }, token) {
  const { expiresAt } = readToken(token);
  if (code === "token_expired") return expiresAt === null ? t("console.tokenExpired") : t("console.tokenExpiredAt", { time: dates.formatFullTime(new Date(expiresAt).toISOString()) });
  if (code === "token_revoked") return t("console.tokenRevoked");
  return t("console.tokenRefused", { reason: message });
}
