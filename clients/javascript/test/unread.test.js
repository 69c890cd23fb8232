// Where the unread messages begin, opening there, and marking all of them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { DOCTOR, PATIENT, problem, token } from "./support/fake-server.js";
import { ReceiptSender } from "../src/conversation/receipt-sender.js";
import { FakeClock } from "./support/fake-clock.js";
import { setUp, texts } from "./support/set-up.js";

/** `read` messages of the patient that the doctor has read, then `unread` ones. */
function history(read, unread) {
  return (server) => {
    for (let i = 0; i < read; i++) server.write(PATIENT, `read ${i + 1}`, { read_at: "2026-11-22T12:00:00Z", delivered_at: "2026-11-22T12:00:00Z" });
    for (let i = 0; i < unread; i++) server.write(PATIENT, `unread ${i + 1}`);
  };
}

const rowRequests = (server) => server.requests.filter(({ path }) => path === "/chat/conversations");
const marks = (server) => server.requests.filter(({ path }) => path === "/chat/read").map(({ body }) => body.message_ids.length);
const unreadOf = (server) => server.messages.filter((message) => !message.sender_user_id && !message.read_at).length;

test("`firstUnread` is known with the first load, before all loaded messages", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: history(20, 300) });
  chat.inbox();
  await clock.advance(1_000);
  const { length } = rowRequests(server);
  const conversation = open();
  assert.equal(conversation.firstUnread, undefined);
  const known = [];
  conversation.on("change", () => { if (conversation.loaded) known.push(conversation.firstUnread); });
  await clock.advance(1_000);
  assert.deepEqual([...new Set(known)], [21], "with the messages, not after them");
  assert.equal(conversation.messages[0].seq, 271);
  assert.equal(rowRequests(server).length, length, "the open inbox has the row");
  assert.equal(await conversation.loadUntil(21), true);
  assert.equal(conversation.messages[0].seq, 1, "pages of 200");
  assert.equal(server.requests.filter(({ query }) => query.before).length, 2);
  assert.equal(texts(conversation)[20], "unread 1");
});

test("`firstUnread` stays while the reader reads, until it is reset", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: history(5, 3) });
  chat.inbox();
  const conversation = open();
  await clock.advance(1_000);
  assert.equal(conversation.firstUnread, 6);
  await Promise.all([conversation.markRead(), clock.advance(1_000)]);
  server.write(PATIENT, "while it is open");
  await clock.advance(1_000);
  assert.equal(conversation.firstUnread, 6);
  let changes = 0;
  conversation.on("change", () => changes++);
  conversation.resetFirstUnread();
  await clock.settle();
  assert.deepEqual([conversation.firstUnread, changes], [9, 1]);
  await Promise.all([conversation.markRead(), clock.advance(1_000)]);
  conversation.resetFirstUnread();
  await clock.settle();
  assert.equal(conversation.firstUnread, null);
});

test("nothing unread is null, and so is an empty conversation", async () => {
  for (const prepare of [history(5, 0), () => {}]) {
    const { clock, open } = await setUp({ prepare });
    const conversation = open();
    await clock.advance(1_000);
    assert.deepEqual([conversation.loaded, conversation.firstUnread], [true, null]);
  }
});

test("without an inbox the row comes from the server, page by page", async () => {
  const { clock, server, open } = await setUp({ prepare: history(20, 300) });
  const others = Array.from({ length: 60 }, (_, index) => ({ ...server.row(DOCTOR), conversation_id: `o${index}`, contact_id: `other${index}`, first_unread_seq: 1 }));
  server.intercept = ({ path, query }) => {
    if (path !== "/chat/conversations") return null;
    const rows = [...others, server.row(DOCTOR)];
    const from = Number(query.cursor ?? 0);
    const to = from + Number(query.limit);
    return { status: 200, body: { conversations: rows.slice(from, to), next_cursor: to < rows.length ? String(to) : null } };
  };
  const conversation = open();
  await clock.advance(1_000);
  assert.equal(conversation.firstUnread, 21);
  assert.deepEqual(rowRequests(server).map(({ query }) => query.limit), ["50", "200"]);
});

test("messages read while the row loads do not move `firstUnread`, and without a row the messages decide", async () => {
  for (const fails of [false, true]) {
    const { clock, server, open } = await setUp({ prepare: history(20, 10) });
    let release;
    server.intercept = async ({ path }) => {
      if (path !== "/chat/conversations") return null;
      await new Promise((resolve) => { release = resolve; });
      return fails ? problem(503, "full") : null;
    };
    const conversation = open();
    await clock.advance(1_000);
    assert.deepEqual([conversation.loaded, conversation.firstUnread], [true, undefined]);
    if (!fails) {
      conversation.markRead();
      await clock.advance(1_000);
      assert.equal(unreadOf(server), 0);
    }
    release();
    await clock.advance(1_000);
    assert.equal(conversation.firstUnread, 21);
  }
});

test("`loadUntil` waits for the first load, and stops where there is no room or no message", async () => {
  const { clock, server, open } = await setUp({ prepare: history(500, 0), chat: { maxMessages: 260 } });
  const conversation = open();
  const early = conversation.loadUntil(480);
  await clock.advance(1_000);
  assert.equal(await early, true);
  assert.equal(await conversation.loadUntil(1), false);
  assert.deepEqual([conversation.messages.length, conversation.messages[0].seq], [260, 241]);
  assert.equal(await conversation.loadUntil(501), false);
  for (const bad of [0, -1, 1.5, "1", undefined, NaN]) await assert.rejects(conversation.loadUntil(bad), { code: "invalid_argument" });
  conversation.close();
  const second = open();
  const never = second.loadUntil(1);
  second.close();
  assert.equal(await never, false);
  server.intercept = () => problem(403, "no");
  const third = open();
  server.intercept = ({ query }) => (query.before ? problem(403, "no") : null);
  await clock.advance(1_000);
  await assert.rejects(third.loadUntil(1), { status: 403 });
});

test("`markAllRead` marks every unread message, 500 per request, loaded or not", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: history(30, 1_230) });
  const inbox = chat.inbox();
  const conversation = open();
  await clock.advance(1_000);
  assert.deepEqual([inbox.unread, conversation.messages.length], [1_230, 50]);
  const progress = [];
  const all = conversation.markAllRead({ onProgress: (one) => progress.push(one) });
  assert.equal(conversation.markAllRead(), all, "one run");
  await clock.advance(2_000);
  assert.equal(await all, 1_230);
  assert.deepEqual(marks(server), [500, 500, 230]);
  assert.deepEqual(progress, [{ marked: 500, total: 1_230 }, { marked: 1_000, total: 1_230 }, { marked: 1_230, total: 1_230 }]);
  assert.ok(server.requests.filter(({ query }) => query.after).every(({ query }) => Number(query.after) >= 30), "pages from the first unread one on");
  assert.deepEqual([inbox.unread, unreadOf(server), conversation.messages.length], [0, 0, 50]);
  assert.ok(conversation.messages.every(({ status }) => status === "read"));
  assert.deepEqual([await conversation.markAllRead(), marks(server).length], [0, 3], "safe to repeat");
});

test("`markAllRead` works without an inbox, from an inbox row, and on a server that does not say where unread messages begin", async () => {
  for (const saysFirst of [true, false]) {
    const { clock, server, open } = await setUp({ prepare: history(30, 300) });
    const { row } = server;
    server.row = (me) => {
      const { first_unread_seq, ...rest } = row.call(server, me);
      return saysFirst && first_unread_seq ? { ...rest, first_unread_seq } : rest;
    };
    const conversation = open();
    const marked = conversation.markAllRead(); // before anything is loaded
    await clock.advance(2_000);
    assert.equal(await marked, 300);
    conversation.close();
    assert.equal(unreadOf(server), 0);
  }
});

test("`firstUnread` is searched in older pages when the server knows only how many messages are unread", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: history(700, 300) });
  const { row } = server;
  server.row = (me) => {
    const { first_unread_seq, ...rest } = row.call(server, me);
    return rest;
  };
  chat.inbox();
  await clock.advance(1_000);
  const conversation = open();
  await clock.advance(2_000);
  assert.equal(conversation.firstUnread, 701);
  assert.equal(server.requests.filter(({ query }) => query.before).length, 2, "no page behind the last unread message");
});

test("a message that arrives during `markAllRead` stays unread", async () => {
  const { clock, server, open } = await setUp({ prepare: history(0, 300) });
  const conversation = open();
  await clock.advance(1_000);
  server.intercept = ({ query }) => {
    if (query.after === "200") server.write(PATIENT, "just now");
    return null;
  };
  const marked = conversation.markAllRead();
  await clock.advance(2_000);
  assert.equal(await marked, 300);
  assert.equal(unreadOf(server), 1);
});

test("own messages are not marked, and a gap in the marks is no obstacle", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => {
    for (let i = 0; i < 20; i++) server.write(i % 2 ? DOCTOR : PATIENT, "text", i === 4 ? { read_at: "2026-11-22T12:00:00Z" } : {});
  } });
  const conversation = open();
  await clock.advance(1_000);
  const marked = conversation.markAllRead();
  await clock.advance(2_000);
  assert.deepEqual([await marked, unreadOf(server)], [9, 0]);
  assert.equal(server.messages.filter(({ sender_user_id, read_at }) => sender_user_id && read_at).length, 0);
});

test("`markAllRead` rejects when a page cannot be loaded, waits for marks, and ends with the conversation", async () => {
  const { clock, server, open } = await setUp({ prepare: history(0, 700) });
  const conversation = open();
  await clock.advance(1_000);
  server.intercept = ({ query }) => (query.after ? problem(403, "no") : null);
  const refused = conversation.markAllRead();
  await clock.advance(1_000);
  await assert.rejects(refused, { name: "ChatError", status: 403 });

  let failures = 3;
  server.intercept = ({ path }) => (path === "/chat/read" && failures-- > 0 ? "request-lost" : null);
  const late = conversation.markAllRead();
  await clock.advance(30_000);
  assert.equal(await late, 700);

  for (let i = 0; i < 700; i++) server.write(PATIENT, "more");
  await clock.advance(1_000);
  server.intercept = ({ path }) => (path === "/chat/read" ? "request-lost" : null);
  const cut = conversation.markAllRead();
  await clock.advance(5_000);
  conversation.close();
  await clock.advance(1_000);
  await assert.rejects(cut, { name: "ChatError", code: "closed" });
  assert.equal(unreadOf(server), 700);
});

test("a service marks nothing", async () => {
  const { clock, server, open } = await setUp({ prepare: history(0, 3), chat: { token: token(DOCTOR, "1", { role: "service" }), me: DOCTOR } });
  const conversation = open();
  await clock.advance(1_000);
  assert.equal(await conversation.markAllRead(), 0);
  assert.deepEqual(marks(server), []);
});

test("a receipt that comes as the last request ends is sent as well", async () => {
  const clock = new FakeClock();
  const sent = [];
  const http = { put: async (_, { message_ids }) => { sent.push(message_ids); return { marked: [] }; } };
  let late = null;
  const owner = { onMarked: () => queueMicrotask(() => { late ??= sender.mark("read", ["m2"]); }), onWaiting() {}, onIdle() {}, onFailed() {}, onRecovered() {} };
  const sender = new ReceiptSender({ http, clock, random: () => 0.5 }, owner);
  void sender.mark("read", ["m1"]);
  await clock.advance(1_000);
  await late;
  assert.deepEqual(sent, [["m1"], ["m2"]]);
});

test("without an inbox, the search for the row ends where older rows begin", async () => {
  const { clock, server, open } = await setUp({ prepare: history(60, 0) });
  const others = (last_activity_at) => ({ status: 200, body: {
    conversations: [{ ...server.row(DOCTOR), conversation_id: "c2", contact_id: "pat7", last_activity_at }], next_cursor: "more",
  } });
  const [newer, older] = [1_000, -1_000].map((ms) => new Date(clock.now() + ms).toISOString());
  server.intercept = ({ path }) => (path === "/chat/conversations" ? clock.settle().then(() => others(rowRequests(server).length < 3 ? newer : older)) : null);
  const conversation = open();
  await clock.advance(1_000); // the answers take several turns each
  await clock.advance(1_000);
  await clock.advance(1_000);
  assert.deepEqual([conversation.firstUnread, rowRequests(server).length], [null, 3]);
});

test("without an inbox, a conversation that is loaded and read needs no row", async () => {
  const { clock, server, open } = await setUp({ prepare: history(3, 0) });
  const conversation = open();
  await clock.advance(1_000);
  const before = rowRequests(server).length;
  conversation.resetFirstUnread();
  await clock.advance(1_000);
  assert.deepEqual([conversation.firstUnread, rowRequests(server).length], [null, before]);
});
