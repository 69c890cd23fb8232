// A conversation: announcements, receipts, typing, memory, closing.

import assert from "node:assert/strict";
import { test } from "node:test";

import { DOCTOR, PATIENT, token } from "./support/fake-server.js";
import { setUp, statuses, texts } from "./support/set-up.js";

test("history and frames join in order, each new one announced once", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => { for (let i = 1; i <= 60; i++) server.write(PATIENT, `old ${i}`); } });
  const conversation = open();
  const announced = [];
  conversation.on("message", ({ content }) => announced.push(content));
  await clock.advance(1_000);
  assert.equal(conversation.state, "live");
  assert.equal(conversation.messages.length, 50);
  assert.equal(conversation.hasMore, true);
  server.write(PATIENT, "new 1");
  server.write(DOCTOR, "from another window");
  await clock.settle();
  assert.equal(await conversation.loadOlder(), false);
  assert.deepEqual(texts(conversation), [...Array.from({ length: 60 }, (_, index) => `old ${index + 1}`), "new 1", "from another window"]);
  assert.deepEqual(announced, ["new 1", "from another window"]);
  assert.deepEqual(conversation.messages.slice(-2).map(({ mine }) => mine), [false, true]);
});

test("a closed conversation loads and announces nothing", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const announced = [];
  conversation.on("message", ({ content }) => announced.push(content));
  const give = {};
  server.intercept = ({ path }) => (path === "/chat/send" || path === "/chat/history" ? new Promise((answer) => { give[path] = () => answer(null); }) : null);
  server.broadcast({ type: "resync" });
  const late = conversation.send("late");
  await clock.settle();
  conversation.close();
  server.write(PATIENT, "after the close");
  const { length } = server.requests;
  for (const path of Object.keys(give)) give[path]();
  assert.equal((await late).seq, 2);
  await clock.advance(10_000);
  assert.deepEqual([announced, server.requests.length - length, clock.waiting, server.messages[0].delivered_at], [[], 0, 0, null]);
});

test("a conversation closed during its first load can be reopened", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: (server) => server.write(PATIENT, "was there") });
  let give;
  server.intercept = ({ path }) => (path === "/chat/history" ? new Promise((answer) => { give = () => answer(null); }) : path === "/chat/send" ? "request-lost" : null);
  const conversation = open();
  conversation.send("waits");
  await clock.settle();
  conversation.close();
  give();
  await clock.settle();
  assert.deepEqual([texts(conversation), conversation.loaded, server.messages[0].delivered_at], [["waits"], false, null]);
  server.intercept = ({ path }) => (path === "/chat/read" ? "request-lost" : null);
  assert.equal(chat.conversation(PATIENT), conversation);
  await clock.advance(20_000);
  assert.deepEqual([texts(conversation), conversation.loaded], [["was there", "waits"], true]);
  const read = conversation.markRead();
  await clock.advance(1_000);
  server.intercept = () => null;
  await clock.advance(20_000);
  await read;
  assert.equal(statuses(conversation)[0], "read", "tried again, as long as it is open");
});

test("a reader who leaves sends the receipt once more, then stops", async () => {
  for (const lost of [false, true]) {
    const { clock, server, open } = await setUp({ prepare: (server) => server.write(PATIENT, "read this") });
    const conversation = open();
    await clock.advance(1_000);
    if (lost) server.intercept = ({ path }) => (path === "/chat/read" ? "request-lost" : null);
    const marked = conversation.markRead();
    conversation.close();
    if (lost) await assert.rejects(marked, { code: "network" });
    else await marked;
    await clock.advance(1_000);
    assert.equal(Boolean(server.messages[0].read_at), !lost);
    assert.equal(clock.waiting, 0, "timers");
  }
});

test("closing announces the messages that still wait", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const announced = [];
  conversation.on("message", ({ content }) => announced.push(content));
  server.intercept = () => "no-response";
  server.broadcast({ type: "resync" });
  server.write(PATIENT, "behind nothing");
  assert.deepEqual(announced, ["behind nothing"], "a message that waits for none is announced");
  const resume = server.pauseDelivery();
  server.write(PATIENT, "missed");
  resume();
  server.write(PATIENT, "live");
  assert.deepEqual(announced, ["behind nothing"]);
  conversation.close();
  assert.deepEqual(announced, ["behind nothing", "live"]);
  assert.equal(clock.waiting, 0, "timers");
});

test("pages are marked delivered, read messages once in one request", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => { for (let i = 1; i <= 3; i++) server.write(PATIENT, `text ${i}`); } });
  const conversation = open();
  await clock.advance(1_000);
  assert.deepEqual(server.messages.map(({ delivered_at }) => Boolean(delivered_at)), [true, true, true]);
  const upTo = conversation.markRead(conversation.messages.slice(0, 2));
  await clock.advance(100);
  await upTo;
  assert.deepEqual(statuses(conversation), ["read", "read", "delivered"]);
  const rest = conversation.markRead();
  conversation.markRead();
  await clock.advance(100);
  await rest;
  assert.deepEqual(server.requests.filter(({ path }) => path === "/chat/read").map(({ body }) => body.message_ids), [["m1", "m2"], ["m3"]]);
});

test("typing is throttled, expires, and ends with a message", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  for (let i = 0; i < 40; i++) { conversation.typing(); await clock.advance(100); }
  assert.equal(server.live[0].sent.filter(({ type }) => type === "typing").length, 2);
  server.broadcast({ type: "typing", ...DOCTOR });
  assert.equal(conversation.peerTyping, false, "one's own other window");
  server.broadcast({ type: "typing", ...PATIENT });
  assert.equal(conversation.peerTyping, true);
  await clock.advance(4_900);
  assert.equal(conversation.peerTyping, true);
  await clock.advance(200);
  assert.equal(conversation.peerTyping, false);
  server.broadcast({ type: "typing", ...PATIENT });
  server.write(PATIENT, "there");
  assert.equal(conversation.peerTyping, false);
});

test("the oldest messages make room for the newest", async () => {
  const { clock, server, open } = await setUp({
    prepare: (server) => { for (let i = 1; i <= 200; i++) server.write(PATIENT, `text ${i}`); }, chat: { maxMessages: 100 },
  });
  const conversation = open();
  await clock.advance(1_000);
  await conversation.loadOlder();
  assert.equal(conversation.messages.length, 100);
  assert.equal(await conversation.loadOlder(), false, "no room");
  assert.deepEqual([conversation.messages.length, conversation.messages[0].seq], [100, 101]);
  for (let i = 201; i <= 250; i++) server.write(PATIENT, `text ${i}`);
  assert.deepEqual([conversation.messages.length, conversation.messages[0].seq, conversation.messages.at(-1).seq], [100, 151, 250]);
  assert.equal(conversation.hasMore, true);
  server.intercept = ({ path }) => (path === "/chat/send" ? "request-lost" : null);
  for (let i = 0; i < 500; i++) conversation.send(`waiting ${i}`);
  await assert.rejects(conversation.send("too many"), { code: "outbox_full" });
});

test("a listener that throws disturbs no other listener", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  const seen = [];
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  conversation.on("message", () => { throw new Error("a bug in the page"); });
  conversation.on("message", ({ content }) => seen.push(content));
  await clock.advance(1_000);
  server.write(PATIENT, "hello");
  assert.deepEqual(seen, ["hello"]);
  assert.deepEqual(reported, ["a bug in the page"]);
  delete globalThis.reportError;
});

test("queries name two users, or a user and a contact", async () => {
  const colleague = await setUp();
  colleague.open({ user_id: "nurse7" });
  await colleague.clock.advance(1_000);
  assert.deepEqual(colleague.server.handshakes[0].query, { location_id: "loc1", user_id: "doc123", peer_user_id: "nurse7" });
  const patient = await setUp({ chat: { token: token(PATIENT) } });
  patient.open(DOCTOR);
  await patient.clock.advance(1_000);
  assert.deepEqual(patient.server.handshakes[0].query, { location_id: "loc1", user_id: "doc123", contact_id: "pat456" });
  assert.throws(() => patient.chat.conversation({ contact_id: "pat7" }), { name: "ChatError", code: "invalid_argument" });
});
