// The console at `/` and Swagger UI at `/docs`, in a real browser. In every test the page requests nothing from other hosts, keeps the
// content security policy, throws no error, and puts no token in a URL.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import {
  apartFromTheNetwork, converse, DOCTOR, launch, message, open, PATIENT, send, seqs, shut, signIn, state, violations, watch,
} from "./browser.js";
import { BASE, kill, line, pair, token } from "../sdk/system.js";

before(launch);
after(shut);

const upTo = (length) => Array.from({ length }, (_, index) => index + 1);

/** Stores messages before a page opens. */
async function write(from, to, texts) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token(from)}` };
  const side = (name, who) => ({ [`${name}_${who.user_id ? "user" : "contact"}_id`]: who.user_id ?? who.contact_id });
  for (const content of texts) {
    const body = JSON.stringify({ location_id: "loc1", ...side("sender", from), ...side("receiver", to), content });
    assert.equal((await fetch(`${BASE}/chat/send`, { method: "POST", headers, body })).status, 201);
  }
}

/** A problem body as the service writes it. */
const problem = (status, detail) => ({
  status, contentType: "application/problem+json", body: JSON.stringify({ type: "about:blank", title: `Status ${status}`, status, detail, request_id: "r1" }),
});

const firstExample = async (path) => /```html\n([\s\S]*?)```/.exec(await readFile(new URL(path, import.meta.url), "utf8"))[1];

test("doctor and patient chat side by side, across a reload", async () => {
  const { page, wrong } = await open("/#both");
  await signIn(page, "doctor", DOCTOR);
  await signIn(page, "patient", PATIENT);
  await state(page, "doctor", "live");
  await state(page, "patient", "live");

  await send(page, "doctor", "How are you today?");
  const sent = await message(page, "doctor", "How are you today?", "read"); // The patient's pane is visible.
  const seen = await message(page, "patient", "How are you today?", "read");
  assert.equal(await seen.getAttribute("data-id"), await sent.getAttribute("data-id"));
  await send(page, "patient", "Much better, thank you");
  await message(page, "patient", "Much better, thank you", "read");
  await message(page, "doctor", "Much better, thank you", "read");
  const order = await seqs(page, "doctor");
  assert.deepEqual(order, order.map((_, index) => order[0] + index), "in order, without gaps");

  await page.reload(); // the tab keeps the session
  await message(page, "doctor", "How are you today?", "read");
  await message(page, "patient", "Much better, thank you", "read");
  await page.getByTestId("doctor-signout").click();
  await page.reload();
  await page.getByTestId("doctor-token").waitFor();
  assert.equal(await page.evaluate(() => JSON.stringify({ ...localStorage })), "{}", "nothing outlives the tab");
  assert.deepEqual(wrong, []);
});

test("two windows chat across a reload and a cut connection", async (t) => {
  const { doctor, patient } = pair();
  const cable = await line(t);
  const one = await open("/", {});
  const two = await open("/", { base: cable.url });
  await signIn(one.page, "me", doctor);
  await signIn(two.page, "me", patient);
  await converse(two.page, "me", doctor);
  await send(two.page, "me", "Good morning");
  await send(two.page, "me", "Are my results there?");
  const row = one.page.getByTestId("me-row");
  await one.page.locator('[data-testid="me-row"][data-unread="2"]').waitFor();
  assert.match(await one.page.title(), /^\(2\)/);
  await row.click();
  await message(two.page, "me", "Good morning", "read");
  await message(two.page, "me", "Are my results there?", "read");
  await one.page.locator('[data-testid="me-row"][data-unread="0"]').waitFor();

  await one.page.reload();
  await message(one.page, "me", "Are my results there?", "read");
  const seen = await watch(two.page, "me");
  cable.cut();
  await state(two.page, "me", "reconnecting");
  await send(two.page, "me", "Written in the lift");
  await message(two.page, "me", "Written in the lift", "sending");
  await two.page.getByTestId("me-banner").filter({ hasText: "interrupted" }).waitFor();
  await send(one.page, "me", "They are fine");
  await message(one.page, "me", "They are fine", "sent");
  cable.mend();
  await state(two.page, "me", "live");
  await message(two.page, "me", "They are fine", "read");
  await message(two.page, "me", "Written in the lift", "read");
  await message(one.page, "me", "They are fine", "read");
  for (const { page } of [one, two]) assert.deepEqual(await seqs(page, "me"), [1, 2, 3, 4]);
  assert.deepEqual(await seen(), []);
  assert.deepEqual([...one.wrong, ...apartFromTheNetwork(two.wrong)], []);
});

test("kill -9 of the gateways loses and doubles no message on screen", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/#both");
  await signIn(page, "doctor", doctor);
  await signIn(page, "patient", patient);
  await state(page, "doctor", "live");
  await state(page, "patient", "live");
  await page.evaluate(() => {
    window.cuts = 0;
    for (const one of document.querySelectorAll(".state")) new MutationObserver(() => { if (one.dataset.state === "reconnecting") window.cuts++; }).observe(one, { attributes: true });
  });
  const seen = await watch(page, "doctor");
  for (const gateway of [0, 1]) {
    const killed = kill("GATEWAY_PIDS", gateway);
    for (const n of upTo(10)) {
      await send(page, "doctor", `doctor ${gateway} ${n}.`);
      await send(page, "patient", `patient ${gateway} ${n}.`);
    }
    await killed;
  }
  await page.waitForFunction(() => window.cuts >= 2);
  for (const pane of ["doctor", "patient"]) {
    await page.getByTestId(`${pane}-messages`).locator('[data-seq="40"]').waitFor();
    await message(page, pane, "patient 1 10.", "read");
    await message(page, pane, "doctor 1 10.", "read");
    assert.deepEqual(await seqs(page, pane), upTo(40));
    const texts = await page.getByTestId(`${pane}-messages`).locator("article p").allTextContents();
    for (const who of ["doctor", "patient"]) {
      assert.deepEqual(texts.filter((text) => text.startsWith(who)), [0, 1].flatMap((gateway) => upTo(10).map((n) => `${who} ${gateway} ${n}.`)));
    }
  }
  assert.deepEqual(await seen(), []);
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("two tabs of one person show the same messages", async () => {
  const { doctor, patient } = pair();
  const one = await open("/");
  const two = await open("/", { context: one.window });
  for (const { page } of [one, two]) {
    await signIn(page, "me", doctor);
    await converse(page, "me", patient);
  }
  await send(one.page, "me", "from the first tab");
  await send(two.page, "me", "from the second tab");
  for (const { page } of [one, two]) {
    await message(page, "me", "from the first tab", "sent");
    await message(page, "me", "from the second tab", "sent");
  }
  assert.deepEqual(await seqs(one.page, "me"), await seqs(two.page, "me"));
  assert.deepEqual([...one.wrong, ...two.wrong], []);
});

test("ticks distinguish sent, delivered and read", async () => {
  const { doctor, patient } = pair();
  const one = await open("/");
  await signIn(one.page, "me", doctor);
  await converse(one.page, "me", patient);
  await send(one.page, "me", "No client is there yet");
  await message(one.page, "me", "No client is there yet", "sent");
  // A bare client of the other side. Its pongs confirm the delivery, and it reads nothing.
  const { page, wrong } = await open("/docs");
  const url = `${BASE.replace("http", "ws")}/ws?${new URLSearchParams({ location_id: "loc1", ...doctor, ...patient })}`;
  const socket = await page.evaluateHandle(([url, token]) => new Promise((resolve, reject) => {
    const socket = new WebSocket(url, ["chat.v1", `bearer.${token}`]);
    socket.onmessage = () => resolve(socket);
    socket.onclose = (event) => reject(new Error(`closed: ${event.code}`));
  }), [url, token(patient)]);
  assert.equal(await socket.evaluate((socket) => socket.protocol), "chat.v1");
  await send(one.page, "me", "Now one is");
  await message(one.page, "me", "Now one is", "delivered");
  const two = await open("/");
  await signIn(two.page, "me", patient);
  await two.page.getByTestId("me-row").click();
  await message(one.page, "me", "Now one is", "read");
  await message(one.page, "me", "No client is there yet", "read");
  await two.page.getByTestId("me-input").pressSequentially("I am");
  await one.page.getByTestId("me-typing").filter({ hasText: "is typing" }).waitFor();
  assert.deepEqual([...one.wrong, ...two.wrong, ...wrong], []);
});

test("presence shows online, then last seen", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const one = await open("/");
  await signIn(one.page, "me", doctor);
  await one.page.getByTestId("me-row").click();
  await message(one.page, "me", "Good morning", "read");
  const presence = one.page.getByTestId("me-presence");
  const online = presence.and(one.page.locator(".is-online"));
  const dot = one.page.getByTestId("me-row").locator(".online");
  assert.deepEqual([await online.count(), await dot.count()], [0, 0]);

  const two = await open("/");
  await signIn(two.page, "me", patient); // The inbox is enough.
  await online.filter({ hasText: /^Online$/ }).waitFor();
  await dot.waitFor({ state: "attached" });
  await two.window.close();
  await presence.filter({ hasText: /^Last seen \d/ }).waitFor();
  assert.deepEqual([await online.count(), await dot.count()], [0, 0]);
  assert.deepEqual([...one.wrong, ...two.wrong], []);
});

test("the inbox counts, searches, and loads older messages", async () => {
  const { doctor, patient } = pair();
  const other = pair();
  await write(patient, doctor, upTo(130).map((n) => `entry ${n}.`));
  await write(other.patient, doctor, ["Could I move my appointment?"]);
  const { page, wrong } = await open("/");
  await signIn(page, "me", doctor);
  const rows = page.getByTestId("me-row");
  await page.locator('[data-testid="me-row"][data-unread="130"]').waitFor();
  assert.equal(await rows.count(), 2);
  assert.match(await rows.first().textContent(), /appointment/, "newest activity first");
  await page.getByTestId("me-search").fill(patient.contact_id);
  assert.equal(await rows.count(), 1);
  await page.getByTestId("me-search").fill("no such thing");
  await page.getByText("No conversation matches.").waitFor();
  await page.getByTestId("me-search").fill("");
  await rows.filter({ hasText: "entry 130." }).click();

  const list = page.getByTestId("me-messages");
  await message(page, "me", "entry 130.", "delivered");
  await list.locator(".unread-line").waitFor();
  assert.equal(await list.locator("h3").count(), 1, "one day");
  await page.getByText("Today", { exact: true }).waitFor();
  assert.ok(await rows.nth(1).getAttribute("data-unread") !== "0", "what was not seen is not read");
  // A message on the screen stays where it is when older ones come above it.
  const moved = await list.evaluate((list) => new Promise((resolve) => {
    list.scrollTop = 0;
    const seen = [...list.querySelectorAll("article")].find((one) => one.getBoundingClientRect().top > list.getBoundingClientRect().top);
    const { top } = seen.getBoundingClientRect();
    new MutationObserver((_, observer) => { observer.disconnect(); resolve(Math.abs(seen.getBoundingClientRect().top - top)); }).observe(list, { childList: true });
  }));
  assert.ok(moved < 2, `moved by ${moved} px`);
  for (;;) {
    const first = (await seqs(page, "me"))[0];
    if (first === 1) break;
    await list.evaluate((list) => { list.scrollTop = 0; });
    await page.waitForFunction((first) => Number(document.querySelector("[data-seq]").dataset.seq) < first, first);
  }
  assert.deepEqual(await seqs(page, "me"), upTo(130));
  await list.evaluate((list) => { list.scrollTop = list.scrollHeight; });
  await page.locator(".jump").waitFor({ state: "hidden" });
  await list.evaluate((list) => { list.scrollTop = 0; });
  await write(patient, doctor, ["one more"]);
  await page.getByText("1 new").click();
  await message(page, "me", "one more", "read");
  assert.deepEqual(wrong, []);
});

test("content stays text and keeps its lines", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/#both");
  await signIn(page, "doctor", doctor);
  await signIn(page, "patient", patient);
  const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
  await send(page, "doctor", hostile);
  await message(page, "patient", hostile, "read");
  assert.equal(await page.getByTestId("patient-messages").locator("img, script").count(), 0);
  assert.notEqual(await page.title(), "owned");
  await page.getByTestId("doctor-input").focus();
  await page.keyboard.type("first line");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("second line");
  await page.keyboard.press("Enter");
  await message(page, "patient", "second line", "read");
  assert.equal(await page.getByTestId("patient-messages").locator("article p").last().textContent(), "first line\nsecond line");
  assert.deepEqual(wrong, []);
});

test("a rejected message shows why and can be retried or discarded", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/");
  await signIn(page, "me", doctor);
  await converse(page, "me", patient);
  await page.route("**/chat/send", (route) => route.fulfill(problem(422, "not today")));
  await send(page, "me", "a first try");
  const failed = await message(page, "me", "a first try", "failed");
  assert.match(await failed.textContent(), /Not sent: not today/);
  await send(page, "me", "to be thrown away");
  const thrown = await message(page, "me", "to be thrown away", "failed");
  await thrown.getByText("Discard").click();
  await thrown.waitFor({ state: "detached" });
  await page.unroute("**/chat/send");
  await failed.getByText("Try again").click();
  await message(page, "me", "a first try", "sent");
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("intermediary pages fail no message and end no conversation", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { page, wrong } = await open("/");
  await page.route(/\/chat\/(history|send)/, (route) => route.fulfill({ status: 404, contentType: "text/html", body: "<h1>Nothing here</h1>" }));
  await signIn(page, "me", doctor);
  await page.getByTestId("me-row").click();
  await state(page, "me", "incomplete");
  await page.getByTestId("me-banner").filter({ hasText: "cannot be loaded" }).waitFor();
  await send(page, "me", "Nice to hear from you");
  await message(page, "me", "Nice to hear from you", "sending");
  await page.unroute(/\/chat\/(history|send)/);
  await message(page, "me", "Nice to hear from you", "sent");
  await message(page, "me", "Good morning", "read");
  await state(page, "me", "live");
  await page.getByTestId("me-banner").waitFor({ state: "hidden" });
  assert.deepEqual(await seqs(page, "me"), [1, 2]);
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("a 401 that passes needs no new sign-in", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/");
  await signIn(page, "me", doctor);
  await converse(page, "me", patient);
  await page.route("**/chat/**", (route) => route.fulfill(problem(401, "the token is not known")));
  await send(page, "me", "Still here");
  await page.getByText("Your sign-in has ended").waitFor();
  await message(page, "me", "Still here", "sending");
  await page.unroute("**/chat/**");
  await message(page, "me", "Still here", "sent");
  await page.getByText("Your sign-in has ended").waitFor({ state: "hidden" });
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("a revoked token is replaced and waiting messages are sent", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/#both");
  await page.getByTestId("doctor-token").fill("nonsense");
  await page.getByTestId("doctor-signin").click();
  await page.getByTestId("doctor-error").filter({ hasText: "no access token" }).waitFor();
  await page.getByTestId("doctor-token").fill(token(patient));
  await page.getByTestId("doctor-signin").click();
  await page.getByTestId("doctor-error").filter({ hasText: "token of a patient" }).waitFor();

  await signIn(page, "doctor", doctor, { jti: `${doctor.user_id}-1` });
  await converse(page, "doctor", patient);
  const answer = await fetch(`${BASE}/admin/revocations`, {
    method: "POST", body: JSON.stringify({ jti: `${doctor.user_id}-1` }),
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token({ user_id: "ehr" }, { role: "service", admin: true })}` },
  });
  assert.equal(answer.status, 204);
  await page.getByText("Your sign-in has ended").waitFor();
  await send(page, "doctor", "Written without a token");
  await message(page, "doctor", "Written without a token", "sending");
  await page.getByTestId("doctor-again").fill(token(doctor));
  await page.getByTestId("doctor-again").press("Enter");
  await message(page, "doctor", "Written without a token", "sent");
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("demo people sign in with one click, in development only", async () => {
  const { page, wrong } = await open("/#both");
  await page.getByTestId("doctor-demo-doc123").click();
  await page.getByTestId("patient-demo-pat456").click();
  await state(page, "doctor", "live");
  await send(page, "doctor", "Welcome to the demonstration");
  await message(page, "patient", "Welcome to the demonstration", "read");
  await page.getByRole("heading", { name: "Maria Santos" }).first().waitFor();
  assert.deepEqual(wrong, []);

  const production = (await (await fetch(`${BASE}/`)).text()).replace('content="development"', 'content="production"');
  const bare = await open("/docs");
  await bare.page.route(`${BASE}/`, (route) => route.fulfill({ contentType: "text/html", body: production }));
  await bare.page.goto(`${BASE}/`);
  await bare.page.getByTestId("me-token").waitFor();
  assert.equal(await bare.page.locator(".person-choice").count(), 0);
  await signIn(bare.page, "me", DOCTOR);
  assert.equal(await bare.page.getByText("Amara Okafor").count(), 0, "names are the demonstration's");
});

test("the keyboard alone reaches everything", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Are you there?"]);
  const { page, wrong } = await open("/");
  const tabTo = async (testid) => {
    for (let presses = 0; presses < 30; presses++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((id) => document.activeElement?.dataset.testid === id, testid)) return;
    }
    assert.fail(`the keyboard does not reach ${testid}`);
  };
  await tabTo("me-token");
  await page.keyboard.insertText(token(doctor));
  await page.keyboard.press("Enter");
  await page.getByTestId("me-row").waitFor();
  await tabTo("me-row");
  await page.keyboard.press("Enter");
  await message(page, "me", "Are you there?", "read");
  assert.equal(await page.evaluate(() => document.activeElement.id), "me-input", "ready to write");
  await page.keyboard.type("I am");
  await page.keyboard.press("Enter");
  await message(page, "me", "I am", "sent");
  await page.keyboard.press("Shift+Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "me-messages", "the messages can be scrolled");
  assert.deepEqual(wrong, []);
});

for (const colorScheme of ["light", "dark"]) {
  for (const [name, viewport] of [["wide", { width: 1280, height: 800 }], ["a phone", { width: 360, height: 740 }]]) {
    test(`axe finds no violation: ${colorScheme}, ${name}`, async () => {
      const { doctor, patient } = pair();
      await write(patient, doctor, ["Good morning", "How are my results?"]);
      const { page, wrong } = await open("/", { colorScheme, viewport });
      const check = async (what) => {
        assert.deepEqual(await violations(page), [], what);
        const { scrollWidth, clientWidth } = await page.evaluate(() => document.scrollingElement);
        assert.equal(scrollWidth, clientWidth, `${what} is wider than the screen`);
      };
      await check("signing in");
      await page.getByTestId("me-token").fill("nonsense");
      await page.getByTestId("me-signin").click();
      await page.getByTestId("me-error").filter({ hasText: "token" }).waitFor();
      await check("a mistake");
      await signIn(page, "me", doctor);
      await page.getByTestId("me-row").waitFor();
      await check("the inbox");
      await page.getByTestId("me-new-button").click();
      await check("a new conversation");
      await page.getByTestId("me-new-button").click();
      await page.getByTestId("me-row").click();
      await message(page, "me", "How are my results?", "read");
      await page.route("**/chat/send", (route) => route.fulfill(problem(422, "not today")), { times: 1 });
      await send(page, "me", "refused");
      await message(page, "me", "refused", "failed");
      await send(page, "me", `They are fine. ${"long".repeat(60)}`);
      await message(page, "me", "They are fine.", "sent");
      await check("a conversation");
      if (viewport.width < 400) {
        await page.getByTestId("me-back").click();
        await page.getByTestId("me-row").waitFor();
      }
      await page.getByTestId("view-both").click();
      await page.getByTestId("doctor-token").waitFor();
      await signIn(page, "doctor", doctor);
      await signIn(page, "patient", patient);
      await state(page, "patient", "live");
      await check("side by side");
      assert.deepEqual(apartFromTheNetwork(wrong), []);
    });
  }
}

test("the ten lines of the README make a page that chats", async () => {
  const lines = await firstExample("../../../clients/javascript/README.md");
  assert.equal(await firstExample("../../../README.md"), lines, "both READMEs have them");
  assert.equal(lines.trim().split("\n").length, 10);
  const { page, wrong, window } = await open("/healthz", { bypassCSP: true }); // another page on this origin
  await window.route(`${BASE}/my-chat-token`, (route) => route.fulfill({ contentType: "text/plain", body: token(DOCTOR) }));
  await page.setContent(lines);
  await page.locator("input").fill("Hello from ten lines");
  await page.locator("input").press("Enter");
  const other = await open("/");
  await signIn(other.page, "me", PATIENT);
  await other.page.getByTestId("me-row").first().click();
  await message(other.page, "me", "Hello from ten lines", "read");
  await page.getByText("Hello from ten lines (read)").waitFor();
  await send(other.page, "me", "Hello to you");
  await page.getByText("Hello to you (").waitFor();
  assert.deepEqual([...wrong, ...other.wrong], []);
});

test("Swagger UI renders without internet and shows every operation", async () => {
  const { page, wrong } = await open("/docs");
  const document = await (await fetch(`${BASE}/openapi.json`)).json();
  const operations = Object.entries(document.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
  await page.locator(".opblock").first().waitFor();
  const shown = await page.locator(".opblock").evaluateAll((blocks) => blocks.map((block) =>
    `${block.querySelector(".opblock-summary-method").textContent.toLowerCase()} ${block.querySelector("[data-path]").dataset.path}`));
  assert.ok(operations.length >= 7);
  assert.deepEqual(shown.sort(), operations.sort());
  assert.deepEqual(wrong, []);
});
