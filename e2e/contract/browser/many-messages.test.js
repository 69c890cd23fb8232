// Many messages in `<ehr-chat>`: it renders a window of the loaded ones, and keeps what the reader sees in its place.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, message, part, send, shut, upTo, write, writeMany } from "./support/browser.js";
import { openPortal } from "./support/portal.js";
import { BASE, pair, token } from "../sdk/system.js";

before(launch);
after(shut);

const MAX_RENDERED_ROWS = 200;

/** What the reader sees: the first message whose top is in view, and where. */
const look = (list) => list.evaluate((list) => {
  const { top, bottom } = list.getBoundingClientRect();
  const articles = [...list.querySelectorAll("article")].filter((one) => one.getBoundingClientRect().top >= top - 1 && one.getBoundingClientRect().top < bottom);
  return { first: Number(articles[0]?.dataset.seq), last: Number(articles.at(-1)?.dataset.seq), top: articles[0]?.getBoundingClientRect().top, rendered: list.querySelectorAll("article").length };
});

/** An option of `connect`: measures each message from its frame to the end of the layout that follows. */
const TIMED_SOCKET = `WebSocket: class extends WebSocket {
  set onmessage(handle) {
    super.onmessage = (event) => {
      const began = performance.now();
      handle(event);
      if (JSON.parse(event.data).type !== "message") return;
      queueMicrotask(() => { // after the change that the SDK scheduled
        window.element.shadowRoot.querySelector(".messages").getBoundingClientRect();
        (window.arrivals ??= []).push(performance.now() - began);
      });
    };
  }
}`;

async function unreadCount(who) {
  const answer = await fetch(`${BASE}/chat/conversations?location_id=loc1`, { headers: { Authorization: `Bearer ${token(who)}` } });
  return (await answer.json()).conversations[0].unread_count;
}

test("messages that arrive in the background get the line of new messages when the reader returns", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, upTo(30).map((n) => `before ${n}.`));
  const { page, wrong } = await openPortal({ me: doctor, peer: patient });
  await part(page, "me", "mark-all-read").click();
  await part(page, "me", "jump").click();
  await message(page, "me", "before 30.", "read");
  const show = (value) => page.evaluate((value) => { Object.defineProperty(document, "visibilityState", { value, configurable: true }); document.dispatchEvent(new Event("visibilitychange")); }, value);
  await show("hidden");
  await write(patient, doctor, upTo(60).map((n) => `after ${n}.`));
  await message(page, "me", "after 60.", "delivered");
  await show("visible");
  await part(page, "me", "unread-line").waitFor();
  assert.equal((await look(part(page, "me", "messages"))).first, 31);
  await part(page, "me", "unread-bar").filter({ hasText: "unread messages" }).waitFor();
  assert.deepEqual(wrong, []);
});

test("what the reader sees stays in its place when older and new messages come", async () => {
  const { doctor, patient } = pair();
  await writeMany(patient, doctor, 400);
  const { page, wrong } = await openPortal({ me: patient, peer: doctor });
  const list = part(page, "me", "messages");
  await list.locator('[data-seq="400"]').waitFor();
  const before = await list.evaluate((list) => {
    list.scrollTop = 300;
    const { top } = list.getBoundingClientRect();
    window.watched = [...list.querySelectorAll("article")].find((one) => one.getBoundingClientRect().top > top);
    return window.watched.getBoundingClientRect().top;
  });
  await page.waitForFunction(() => window.element.conversation.messages[0].seq < 351);
  const moved = await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(window.watched.getBoundingClientRect().top)))));
  assert.ok(Math.abs(moved - before) < 1.500, `older messages moved it by ${moved - before} px`);
  await write(doctor, patient, ["one more"]);
  await part(page, "me", "jump").filter({ hasText: "1 new" }).waitFor();
  await part(page, "me", "unread-bar").waitFor(); // which takes room above the list
  const later = await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(window.watched.getBoundingClientRect().top)))));
  assert.ok(Math.abs(later - moved) < 1.500, `a new message moved it by ${later - moved} px`);
  await list.hover();
  for (let turns = 0; turns < 200 && await page.evaluate(() => window.element.conversation.messages[0].seq > 1); turns++) await page.mouse.wheel(0, -900);
  await page.waitForFunction(() => window.element.conversation.messages[0].seq === 1);
  await part(page, "me", "jump").click();
  await message(page, "me", "one more", "read");
  assert.deepEqual(wrong, []);
});

test("5,000 loaded messages: at most 200 rows are rendered, and typing and receiving stay fast", async (t) => {
  const { doctor, patient } = pair();
  await writeMany(patient, doctor, 5_000);
  const { page, wrong } = await openPortal({ me: doctor, peer: patient, connect: TIMED_SOCKET });
  await part(page, "me", "unread-line").waitFor({ timeout: 60_000 });
  const list = part(page, "me", "messages");
  assert.ok(await page.evaluate(() => window.element.conversation.loadUntil(1)));
  assert.equal(await page.evaluate(() => window.element.conversation.messages.length), 5_000);

  const { most, seqs } = await list.evaluate(async (list) => {
    const seqs = new Set();
    let most = 0;
    const count = () => {
      const rows = list.querySelectorAll("article");
      most = Math.max(most, rows.length);
      for (const row of rows) seqs.add(Number(row.dataset.seq));
    };
    for (list.scrollTop = 0; ; list.scrollTop += list.clientHeight) {
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      count();
      if (list.scrollTop + list.clientHeight >= list.scrollHeight - 1) break;
    }
    for (const part of [0.900, 0.100, 0.500]) { // as a reader drags the scroll bar
      list.scrollTop = list.scrollHeight * part;
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      count();
    }
    return { most, seqs: [...seqs].sort((a, b) => a - b) };
  });
  assert.ok(most <= MAX_RENDERED_ROWS, `${most} rows`);
  assert.deepEqual(seqs, upTo(5_000), "scrolling shows every message");

  await part(page, "me", "mark-all-read").click();
  await part(page, "me", "unread-bar").waitFor({ state: "hidden", timeout: 60_000 });
  assert.equal(await unreadCount(doctor), 0);
  await list.evaluate((list) => { list.scrollTop = list.scrollHeight; });
  // From the event to the end of the layout that follows it.
  const timeKey = () => part(page, "me", "input").evaluate((input) => {
    const began = performance.now();
    input.value += "x";
    input.dispatchEvent(new InputEvent("input", { bubbles: true }));
    return new Promise((resolve) => queueMicrotask(() => queueMicrotask(() => { input.getBoundingClientRect(); resolve(performance.now() - began); })));
  });
  const keys = [];
  for (let press = 0; press < 100; press++) keys.push(await timeKey());
  await part(page, "me", "input").fill("");
  for (const n of upTo(40)) {
    await write(patient, doctor, [`arrival ${n}.`]);
    await page.waitForFunction((n) => window.arrivals?.length >= n, n);
  }
  const arrivals = await page.evaluate(() => window.arrivals);
  await message(page, "me", "arrival 40.", "read");
  const quantile = (times, part) => [...times].sort((a, b) => a - b)[Math.min(Math.floor(times.length * part), times.length - 1)];
  t.diagnostic(`per key: median ${quantile(keys, 0.500).toFixed(1)} ms, p95 ${quantile(keys, 0.950).toFixed(1)} ms; per incoming message: median ${quantile(arrivals, 0.500).toFixed(1)} ms, p95 ${quantile(arrivals, 0.950).toFixed(1)} ms`);
  assert.ok(quantile(keys, 0.500) < 30, `median per key: ${quantile(keys, 0.500)} ms`);
  assert.ok(quantile(arrivals, 0.500) < 50, `median per incoming message: ${quantile(arrivals, 0.500)} ms`);
  assert.ok((await look(list)).rendered <= MAX_RENDERED_ROWS);
  await send(page, "me", "I read all of it");
  await message(page, "me", "I read all of it", "sent");
  assert.deepEqual(wrong, []);
});

test("300 unread messages: it opens at the first one, counts them, and marks all as read", async () => {
  const { doctor, patient } = pair();
  await writeMany(patient, doctor, 40);
  await write(doctor, patient, ["I have read these"]);
  const answer = await fetch(`${BASE}/chat/history?${new URLSearchParams({ location_id: "loc1", ...doctor, ...patient, limit: 200 })}`, { headers: { Authorization: `Bearer ${token(doctor)}` } });
  const ids = (await answer.json()).messages.filter((one) => one.sender_contact_id).map(({ id }) => id);
  await fetch(`${BASE}/chat/read`, { method: "PUT", headers: { "Content-Type": "application/json", Authorization: `Bearer ${token(doctor)}` }, body: JSON.stringify({ message_ids: ids }) });
  await writeMany(patient, doctor, 300);
  const { page, wrong } = await openPortal({ me: doctor, peer: patient });
  await part(page, "me", "unread-line").waitFor();
  const list = part(page, "me", "messages");
  const seen = await look(list);
  assert.equal(seen.first, 42, "the first unread message is the first one in view");
  const line = await part(page, "me", "unread-line").evaluate((line) => line.getBoundingClientRect().top);
  const head = await list.evaluate((list) => list.getBoundingClientRect().top);
  assert.ok(line >= head && line < seen.top, "the line stands right before it");
  await part(page, "me", "unread-bar").filter({ hasText: /^(?:300|29\d|28\d) unread messages/ }).waitFor(); // those in view are read soon
  const remaining = await unreadCount(doctor);
  assert.ok(remaining > 280 && remaining <= 300, `what was not in view is not read: ${remaining}`);

  // Reading on moves neither the line nor the reader.
  await list.evaluate((list) => { list.scrollTop += 400; });
  await page.waitForFunction(() => Number(/^\d+/.exec(window.element.shadowRoot.querySelector("[part=unread-bar]").textContent)[0]) < 296);
  await part(page, "me", "jump").click();
  await list.locator('[data-seq="341"]').waitFor();
  assert.equal((await look(list)).last, 341);
  await list.evaluate((list) => { list.scrollTop = 0; });
  await page.waitForFunction(() => window.element.conversation.messages[0].seq === 1);

  await part(page, "me", "mark-all-read").click();
  await part(page, "me", "unread-bar").waitFor({ state: "hidden" });
  assert.equal(await unreadCount(doctor), 0);
  assert.equal(await page.evaluate(() => window.element.conversation.messages.filter((one) => !one.mine && one.read_at === null).length), 0);
  assert.deepEqual(wrong, []);
});

test("5,000 unread messages: it opens at the first one", async () => {
  const { doctor, patient } = pair();
  await writeMany(patient, doctor, 5_000);
  const { page, wrong } = await openPortal({ me: doctor, peer: patient });
  await part(page, "me", "unread-line").waitFor({ timeout: 60_000 });
  assert.equal((await look(part(page, "me", "messages"))).first, 1);
  await part(page, "me", "unread-bar").filter({ hasText: /^(?:5,000|4,9\d\d) unread messages/ }).waitFor();
  assert.deepEqual(wrong, []);
});
