import assert from "node:assert/strict";
import { test } from "node:test";

import { PATIENT, problem } from "./support/fake-server.js";
import { setUp } from "./support/set-up.js";

const page = (rows, next_cursor = null) => ({ status: 200, body: { conversations: rows, next_cursor } });
const row = (id, minute, unread_count = 0) => ({
  conversation_id: id, location_id: "loc1", user_id: "doc123", contact_id: id, unread_count,
  last_message: { id: `m-${id}`, sender_contact_id: id, content: "text" }, last_activity_at: `2026-11-22T12:${String(minute).padStart(2, "0")}:00Z`,
});

test("rows arrive by frames, with unread counts", async () => {
  const { clock, server, chat } = await setUp({ prepare: (server) => server.write(PATIENT, "one") });
  const inbox = chat.inbox();
  await clock.advance(1_000);
  assert.deepEqual([inbox.state, inbox.loaded, inbox.unread], ["live", true, 1]);
  assert.deepEqual(inbox.rows[0].peer, PATIENT);
  assert.equal(inbox.rows[0].mine, false);
  server.write(PATIENT, "two");
  assert.deepEqual([inbox.unread, inbox.rows[0].last_message.content], [2, "two"]);
  const conversation = chat.conversation(PATIENT);
  await clock.advance(1_000);
  conversation.markRead();
  await clock.advance(1_000);
  assert.equal(inbox.unread, 0);
});

test("a frame during a load is newer than the response", async () => {
  const { clock, server, chat } = await setUp({ prepare: (server) => server.write(PATIENT, "one") });
  const inbox = chat.inbox();
  await clock.advance(1_000);
  let release;
  server.intercept = async ({ path }) => {
    if (path !== "/chat/conversations") return null;
    const old = structuredClone(server.row(chat.me));
    await new Promise((resolve) => { release = resolve; });
    return page([old]);
  };
  server.broadcast({ type: "recovered" });
  await clock.settle();
  server.write(PATIENT, "newer");
  release();
  await clock.settle();
  assert.deepEqual([inbox.unread, inbox.rows[0].last_message.content], [2, "newer"]);
});

test("rows load by page and reload in the same number", async () => {
  const all = Array.from({ length: 120 }, (_, index) => row(`c${index}`, 59 - Math.floor(index / 3)));
  all.sort((a, b) => (a.last_activity_at < b.last_activity_at || (a.last_activity_at === b.last_activity_at && a.conversation_id < b.conversation_id) ? 1 : -1));
  const { clock, server, chat } = await setUp();
  server.intercept = ({ path, query }) => {
    if (path !== "/chat/conversations") return null;
    const from = Number(query.cursor ?? 0);
    const to = from + Number(query.limit);
    return page(all.slice(from, to), to < all.length ? String(to) : null);
  };
  const inbox = chat.inbox();
  await clock.advance(1_000);
  assert.equal(inbox.rows.length, 50);
  assert.equal(await inbox.loadMore(), true);
  assert.equal(await inbox.loadMore(), false);
  assert.deepEqual(inbox.rows.map(({ conversation_id }) => conversation_id), all.map(({ conversation_id }) => conversation_id));
  all[100].unread_count = 7;
  server.cutAll();
  await clock.advance(1_000);
  assert.equal(inbox.rows.length, 120);
  assert.equal(inbox.unread, 7);
});

test("a server without inbox sockets is polled", async () => {
  const { clock, server, chat } = await setUp({ prepare: (server) => server.write(PATIENT, "one") });
  server.handshake = ({ query }) => query.contact_id !== undefined;
  const inbox = chat.inbox();
  await clock.advance(1_000);
  assert.equal(inbox.unread, 1);
  server.write(PATIENT, "two");
  await clock.advance(6_000);
  assert.equal(inbox.unread, 2);
  const conversation = chat.conversation(PATIENT);
  await clock.advance(1_000);
  conversation.markRead();
  await clock.advance(500);
  assert.equal(inbox.unread, 0, "soon after the local change");
});

test("presence is requested once, then updated by frames", async () => {
  const { clock, server, chat, open } = await setUp();
  const conversation = open();
  assert.equal(conversation.presence, null);
  await clock.advance(1_000);
  assert.deepEqual(conversation.presence, { online: true, last_seen_at: null });
  const changes = [];
  chat.on("presence", (presence) => changes.push(presence));
  server.broadcast({ type: "presence", ...PATIENT, online: false, last_seen_at: "2026-11-22T12:00:00Z" });
  assert.deepEqual(conversation.presence, { online: false, last_seen_at: "2026-11-22T12:00:00Z" });
  assert.deepEqual(changes, [{ ...PATIENT, online: false, last_seen_at: "2026-11-22T12:00:00Z" }]);
  server.intercept = ({ path }) => (path === "/chat/presence" ? problem(404, "nothing here") : null);
  assert.equal(await chat.presence(PATIENT), null);
});

test("presence is refetched after the first message and `recovered`", async () => {
  const { clock, server, open } = await setUp();
  let participants = [];
  server.intercept = ({ path }) => (path === "/chat/presence" ? { status: 200, body: { participants } } : null);
  const conversation = open();
  await clock.advance(1_000);
  assert.equal(conversation.presence, null, "no shared conversation yet");
  participants = [{ ...PATIENT, online: true, last_seen_at: null }];
  conversation.send("Hello");
  await clock.advance(1_000);
  assert.deepEqual(conversation.presence, { online: true, last_seen_at: null });
  participants = [{ ...PATIENT, online: false, last_seen_at: "2026-11-22T12:00:00Z" }];
  server.broadcast({ type: "degraded" });
  server.broadcast({ type: "recovered" });
  await clock.advance(1_000);
  assert.deepEqual(conversation.presence, { online: false, last_seen_at: "2026-11-22T12:00:00Z" });
});

test("without frames, writing a draft loads no rows", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: (server) => { server.handshake = () => false; } });
  chat.inbox();
  const conversation = open();
  await clock.advance(2_000);
  const count = () => server.requests.filter(({ path }) => path === "/chat/conversations").length;
  const before = count();
  conversation.setDraft("D");
  await clock.advance(400);
  assert.equal(count(), before);
  conversation.send("Dear pa");
  await clock.advance(400);
  assert.ok(count() > before, "a message changes a row");
});
