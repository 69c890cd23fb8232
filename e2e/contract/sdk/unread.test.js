// Unread messages, against the real system.

import assert from "node:assert/strict";
import { test } from "node:test";

import { client, live, pair, until } from "./system.js";

const count = (length) => Array.from({ length }, (_, index) => index + 1);

test("320 unread messages are loaded up to the first, and marked at once, loaded or not", async (t) => {
  const { doctor, patient } = pair();
  const writer = (await client(t, patient)).conversation(doctor);
  await Promise.all(count(320).map((n) => writer.send(`text ${n}`)));
  const chat = await client(t, doctor);
  const inbox = chat.inbox();
  await until(inbox, "all unread", () => inbox.unread === 320);
  const mine = chat.conversation(patient);
  await until(mine, "loaded", () => mine.loaded);
  assert.equal(mine.messages[0].seq, 271);
  assert.equal(await mine.loadUntil(1), true);
  assert.deepEqual(mine.messages.map(({ seq }) => seq), count(320));
  mine.close();
  const again = chat.conversation(patient);
  const steps = [];
  assert.equal(await again.markAllRead({ onProgress: ({ marked, total }) => steps.push([marked, total]) }), 320);
  assert.deepEqual(steps, [[320, 320]]);
  await until(inbox, "none", () => inbox.unread === 0);
  assert.equal(await again.markAllRead(), 0);
  await live(writer);
  await until(writer, "read", () => writer.messages.every(({ status }) => status === "read"));
});

test("a conversation opens at the first unread message, with and without an open inbox", async (t) => {
  const { doctor, patient } = pair();
  const writer = (await client(t, patient)).conversation(doctor);
  await Promise.all(count(320).map((n) => writer.send(`text ${n}`)));
  const chat = await client(t, doctor);
  const inbox = chat.inbox();
  await until(inbox, "all unread", () => inbox.unread === 320);
  assert.equal(inbox.rows[0].first_unread_seq, 1);
  const mine = chat.conversation(patient);
  await until(mine, "found", () => mine.firstUnread !== undefined);
  assert.deepEqual([mine.firstUnread, mine.messages[0].seq], [1, 271]);
  await mine.markAllRead();
  await until(inbox, "none", () => inbox.unread === 0);
  assert.equal(inbox.rows[0].first_unread_seq, undefined);
  await writer.send("one more");
  const elsewhere = (await client(t, doctor)).conversation(patient); // without an inbox
  await until(elsewhere, "found", () => elsewhere.firstUnread !== undefined);
  assert.equal(elsewhere.firstUnread, 321);
});
