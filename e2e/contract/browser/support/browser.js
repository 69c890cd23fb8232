// A browser for the tests of the pages. It records what a page must not do, and uses the console as a person does. In every test the page
// requests nothing from other hosts, keeps the content security policy, throws no error, and puts no token in a URL.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

import { BASE, token } from "../../sdk/system.js";

const LIMIT = 20_000;
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const DOCTOR = { user_id: "doc123" };
export const PATIENT = { contact_id: "pat456" };

let browser;
export async function launch() {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      // A page that a test answers has no network address, so Chromium would count this machine as foreign to it.
      "--disable-features=LocalNetworkAccessChecks",
    ],
  });
}
export const shut = () => browser?.close();

/** A page of another program than the console, without the checks of `open`. */
export async function newPage() {
  const page = await browser.newPage();
  page.setDefaultTimeout(LIMIT);
  return page;
}

/**
 * Opens a page. `wrong` collects errors, requests to other hosts, and tokens in URLs. `routes` are answers of the test in place of the
 * server's, by path.
 */
export async function open(path, { context = null, base = BASE, routes = {}, ...options } = {}) {
  const window = context ?? await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", ...options });
  for (const [route, answer] of Object.entries(routes)) await window.route(base + route, (request) => request.fulfill(answer));
  const page = await window.newPage();
  page.setDefaultTimeout(LIMIT);
  const wrong = [];
  page.on("console", (message) => { if (message.type() === "error") wrong.push(`console: ${message.text()} ${message.location().url}`); });
  page.on("pageerror", (error) => wrong.push(`script: ${error}`));
  page.on("request", (request) => {
    const { protocol, host } = new URL(request.url());
    if (!["data:", "blob:"].includes(protocol) && host !== new URL(base).host) wrong.push(`request: ${request.url()}`);
    if (/eyJ/.test(request.url())) wrong.push("a token in a URL");
  });
  page.on("websocket", (socket) => { if (new URL(socket.url()).host !== new URL(base).host) wrong.push(`socket: ${socket.url()}`); });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  const response = await page.goto(base + path);
  assert.equal(response.status(), 200);
  return { page, wrong, window };
}

/** Without the errors that a browser logs because the test broke the network. */
export const apartFromTheNetwork = (wrong) => wrong.filter((text) => !/WebSocket connection to|Failed to load resource|ERR_/.test(text));

/** A part of the conversation view: `input`, `send`, `messages`, `back`, `presence`, `typing` or `banner`. */
export const part = (page, pane, name) => page.locator(`[data-testid="${pane}-${name}"], [data-pane="${pane}"] ehr-chat [part~="${name}"]`);

/** Signs a participant in with a pasted token. */
export async function signIn(page, pane, who, options) {
  await page.getByTestId(`${pane}-token`).fill(token(who, options));
  await page.getByTestId(`${pane}-signin`).click();
  await page.getByTestId(`${pane}-signout`).waitFor();
}

/** Opens a conversation, which may be new. */
export async function converse(page, pane, peer) {
  await page.getByTestId(`${pane}-new-button`).click();
  await page.locator(`#${pane}-new-kind`).selectOption(peer.user_id ? "user_id" : "contact_id");
  await page.getByTestId(`${pane}-new-id`).fill(peer.user_id ?? peer.contact_id);
  await page.getByTestId(`${pane}-new-open`).click();
  await state(page, pane, "live");
}

export const state = (page, pane, wanted) => page.locator(`[data-testid="${pane}-state"][data-state="${wanted}"]`).waitFor({ state: "attached" });

export async function send(page, pane, text) {
  await part(page, pane, "input").fill(text);
  await part(page, pane, "send").click();
}

/** The one message with this text, once it is in this state. */
export async function message(page, pane, text, wanted) {
  const found = part(page, pane, "messages").locator("article").filter({ hasText: text });
  await found.and(page.locator(`[data-state="${wanted}"]`)).waitFor();
  assert.equal(await found.count(), 1);
  return found;
}

export const seqs = (page, pane) => part(page, pane, "messages").locator("[data-seq]").evaluateAll((all) => all.map((one) => Number(one.dataset.seq)));

/** Records each moment in which the list shows a message twice, out of order, or with a tick that goes back. */
export async function watch(page, pane) {
  await part(page, pane, "messages").evaluate((list) => {
    const rank = { failed: -1, sending: 0, sent: 1, delivered: 2, read: 3 };
    const best = new Map();
    window.seen = [];
    const look = () => {
      const ids = new Set();
      let before = 0;
      for (const one of list.querySelectorAll("article")) {
        const { id, seq, state } = one.dataset;
        if (ids.has(id)) window.seen.push(`doubled: ${id}`);
        ids.add(id);
        if (Number(seq ?? Infinity) <= before) window.seen.push(`out of order: ${seq}`);
        before = Number(seq ?? before);
        if (rank[state] < (best.get(one) ?? -1)) window.seen.push(`back to ${state}`);
        best.set(one, rank[state]);
      }
    };
    new MutationObserver(look).observe(list, { childList: true, subtree: true, attributes: true });
  });
  return () => page.evaluate(() => window.seen);
}

/** What axe finds. The test loads axe past the page's content security policy. */
export async function violations(page) {
  return page.evaluate(async (source) => {
    if (!globalThis.axe) new Function(`${source}; globalThis.axe = axe;`)();
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
  }, AXE);
}

/** 1, 2, 3 … */
export const upTo = (length) => Array.from({ length }, (_, index) => index + 1);

/** Stores messages before a page opens. */
export async function write(from, to, texts) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token(from)}` };
  const side = (name, who) => ({ [`${name}_${who.user_id ? "user" : "contact"}_id`]: who.user_id ?? who.contact_id });
  for (const content of texts) {
    const body = JSON.stringify({ location_id: "loc1", ...side("sender", from), ...side("receiver", to), content });
    assert.equal((await fetch(`${BASE}/chat/send`, { method: "POST", headers, body })).status, 201);
  }
}

/** Stores many messages, in any order. Each service token has a rate limit of its own. */
export async function writeMany(from, to, count) {
  const side = (name, who) => ({ [`${name}_${who.user_id ? "user" : "contact"}_id`]: who.user_id ?? who.contact_id });
  let left = count;
  const work = async (_, index) => {
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token({ user_id: `writer-${process.pid}-${index}-${count}` }, { role: "service" })}` };
    while (left-- > 0) {
      const body = JSON.stringify({ location_id: "loc1", ...side("sender", from), ...side("receiver", to), content: `entry, ${"word ".repeat(left % 30)}` });
      assert.equal((await fetch(`${BASE}/chat/send`, { method: "POST", headers, body })).status, 201);
    }
  };
  await Promise.all(Array.from({ length: Math.ceil(count / 40) }, work).slice(0, 100));
}

/** A problem body as the service writes it. */
export const problem = (status, detail) => ({
  status, contentType: "application/problem+json", body: JSON.stringify({ type: "about:blank", title: `Status ${status}`, status, detail, request_id: "r1" }),
});
