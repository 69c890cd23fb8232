// Two people chat in the console: across reloads, cut connections and killed gateways; receipts and presence.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  apartFromTheNetwork, converse, DOCTOR, launch, message, open, part, PATIENT, send, seqs, shut, signIn, state, upTo, watch, write,
} from "./support/browser.js";
import { BASE, kill, line, pair, token } from "../sdk/system.js";

before(launch);
after(shut);

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
  await state(two.page, "me", "offline");
  await send(two.page, "me", "Written in the lift");
  await message(two.page, "me", "Written in the lift", "sending");
  await two.page.getByTestId("me-connection").filter({ hasText: "You are offline" }).waitFor();
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
    await part(page, pane, "messages").locator('[data-seq="40"]').waitFor();
    await message(page, pane, "patient 1 10.", "read");
    await message(page, pane, "doctor 1 10.", "read");
    assert.deepEqual(await seqs(page, pane), upTo(40));
    const texts = await part(page, pane, "messages").locator("article p").allTextContents();
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
  await part(two.page, "me", "input").pressSequentially("I am");
  await part(one.page, "me", "typing").filter({ hasText: "is typing" }).waitFor();
  assert.deepEqual([...one.wrong, ...two.wrong, ...wrong], []);
});

test("presence shows online, then last seen", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const one = await open("/");
  await signIn(one.page, "me", doctor);
  await one.page.getByTestId("me-row").click();
  await message(one.page, "me", "Good morning", "read");
  const presence = part(one.page, "me", "presence");
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
