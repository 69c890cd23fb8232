// Connections that are slow, silent or dead, and clocks that are set.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PATIENT } from "./support/fake-server.js";
import { statuses, texts, setUp } from "./support/set-up.js";

const LONG = "Ä".repeat(8_000);

test("a line of 20 KB/s loads pages of long messages", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: (server) => { for (let i = 1; i <= 120; i++) server.write(PATIENT, `${i} ${LONG.slice(0, 7_990)}`); server.speed = 20_000; } });
  const conversation = open();
  const inbox = chat.inbox();
  const warnings = [];
  chat.on("warning", (error) => warnings.push(error));
  await clock.advance(120_000);
  assert.deepEqual([conversation.loaded, conversation.state, conversation.messages.at(-1).seq, inbox.loaded], [true, "live", 120, true]);
  let older = conversation.loadOlder();
  while (conversation.hasMore) { await clock.advance(5_000); older = conversation.loadOlder(); }
  await older;
  assert.deepEqual(conversation.messages.map(({ seq }) => seq), server.messages.map(({ seq }) => seq));
  assert.deepEqual(warnings, []);
  const limits = server.requests.filter(({ path, query }) => path === "/chat/history" && query.before).map(({ query }) => Number(query.limit));
  assert.ok(limits[0] < 50 && Math.min(...limits) >= 1, limits.join());
});

test("pages shrink after a timeout and grow after fast responses", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => { for (let i = 1; i <= 300; i++) server.write(PATIENT, `text ${i}`); } });
  server.intercept = ({ path, query }) => (path === "/chat/history" && Number(query.limit) > 5 ? "no-response" : null);
  const conversation = open();
  await clock.advance(60_000);
  assert.deepEqual([conversation.loaded, conversation.state, conversation.messages.length], [true, "live", 4]);
  server.intercept = () => null;
  while (await conversation.loadOlder());
  assert.equal(conversation.messages.length, 300);
  const limits = server.requests.filter(({ path }) => path === "/chat/history").map(({ query }) => Number(query.limit));
  assert.deepEqual(limits.slice(0, 3), [50, 13, 4]);
  assert.equal(limits.at(-1), 50);
});

test("pages grow again on a steady line of high latency", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => { for (let i = 1; i <= 300; i++) server.write(PATIENT, `text ${i}`); } });
  let timeouts = 3;
  const late = (ms) => new Promise((answered) => clock.after(ms, () => answered(null)));
  server.intercept = ({ path }) => (path !== "/chat/history" ? null : timeouts-- > 0 ? "no-response" : late(1_200));
  const conversation = open();
  await clock.advance(120_000);
  const limits = () => server.requests.filter(({ path }) => path === "/chat/history").map(({ query }) => Number(query.limit));
  assert.deepEqual([conversation.loaded, limits().slice(0, 4)], [true, [50, 13, 4, 1]]);
  while (conversation.hasMore) { conversation.loadOlder(); await clock.advance(2_000); }
  assert.equal(conversation.messages.length, 300);
  assert.equal(Math.max(...limits().slice(4)), 50, limits().join());
  assert.ok(limits().length < 50, limits().join());
});

test("pages stay small on a slow line", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => { for (let i = 1; i <= 300; i++) server.write(PATIENT, `text ${i}`); } });
  const late = (ms) => new Promise((answered) => clock.after(ms, () => answered(null)));
  server.intercept = ({ path, query }) => (path === "/chat/history" ? late(Number(query.limit) > 13 ? 8_000 : 1_200) : null);
  const conversation = open();
  await clock.advance(60_000);
  while (conversation.hasMore) { conversation.loadOlder(); await clock.advance(9_000); }
  const limits = server.requests.filter(({ path }) => path === "/chat/history").map(({ query }) => Number(query.limit));
  const large = limits.slice(2).filter((limit) => limit > 13).length;
  assert.ok(large > 0 && large <= limits.length / 4, limits.join());
});

test("a response that falls silent is aborted and retried", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => server.write(PATIENT, LONG) });
  server.speed = 100;
  const after = clock.after.bind(clock);
  clock.after = (ms, run) => after(ms === 100 ? 20_000 : ms, run); // between the parts of a response
  const conversation = open();
  const errors = [];
  conversation.on("state", () => errors.push(conversation.error?.code));
  await clock.advance(16_000);
  assert.deepEqual([conversation.state, errors.at(-1)], ["incomplete", "timeout"]);
  server.speed = null;
  await clock.advance(20_000);
  assert.deepEqual([conversation.state, conversation.messages.length], ["live", 1]);
});

test("a response that trickles for ever is aborted", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => server.write(PATIENT, LONG) });
  server.speed = 10;
  const conversation = open();
  await clock.advance(290_000);
  assert.equal(conversation.error, null);
  await clock.advance(20_000);
  assert.equal(conversation.error?.code, "timeout");
});

test("a request that ignores its signal is abandoned", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: (server) => server.write(PATIENT, "one") });
  let isBlocked = true;
  server.intercept = () => (isBlocked ? "ignores-abort" : null);
  server.handshake = () => !isBlocked;
  const conversation = open();
  const inbox = chat.inbox();
  const sent = conversation.send("two");
  const presence = chat.presence(PATIENT);
  await clock.advance(16_000);
  assert.equal(await presence, null);
  assert.deepEqual(chat.retrying.map(({ error }) => error.code), Array(chat.retrying.length).fill("timeout"));
  assert.ok(chat.retrying.length >= 4);
  isBlocked = false;
  await clock.advance(45_000);
  assert.deepEqual([conversation.state, inbox.state, (await sent).status], ["live", "live", "sent"]);
});

test("a long message may upload slowly", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  let asked = 0;
  server.intercept = ({ path }) => (path === "/chat/send" ? new Promise((answer) => { asked++; clock.after(20_000, () => answer(null)); }) : null);
  server.pauseDelivery();
  const sent = conversation.send(LONG);
  await clock.advance(21_000);
  assert.equal((await sent).seq, 1);
  assert.equal(asked, 1);
});

test("failed loads show in the state and as warnings", async () => {
  const { clock, server, chat, open } = await setUp();
  const conversation = open();
  const inbox = chat.inbox();
  await clock.advance(1_000);
  const warnings = [];
  const states = [];
  chat.on("warning", ({ work, status }) => warnings.push(`${work} ${status}`));
  conversation.on("state", (state) => states.push(state));
  const resume = server.pauseDelivery();
  server.write(PATIENT, "missed");
  resume();
  server.intercept = ({ path }) => (path === "/chat/history" || path === "/chat/conversations" ? { status: 503, body: {} } : null);
  server.broadcast({ type: "resync" });
  await clock.advance(10_000);
  assert.deepEqual([conversation.state, conversation.error.status, inbox.state, inbox.error.status], ["incomplete", 503, "incomplete", 503]);
  assert.ok(warnings.filter((one) => one === "history 503").length > 2 && warnings.includes("inbox 503"), warnings.join());
  assert.deepEqual(chat.retrying.map(({ work }) => work), ["inbox", "history"]);
  server.write(PATIENT, "live all the same");
  assert.deepEqual(texts(conversation), ["live all the same"]);
  server.intercept = () => null;
  await clock.advance(20_000);
  assert.deepEqual([conversation.state, conversation.error, inbox.state, texts(conversation)], ["live", null, "live", ["missed", "live all the same"]]);
  assert.deepEqual(states, ["incomplete", "live"]);
});

test("presence is polled without frames and expires without answers", async () => {
  for (const [cut, mend] of [
    [({ server }) => { server.handshake = () => false; server.cutAll(); }, ({ server }) => { server.handshake = () => true; }],
    [({ server }) => server.broadcast({ type: "degraded" }), ({ server }) => server.broadcast({ type: "recovered" })],
  ]) {
    const all = await setUp({ prepare: (server) => server.write(PATIENT, "first message") });
    const { clock, server, chat, open } = all;
    let online = true;
    let isAway = false;
    server.intercept = ({ path }) => (path !== "/chat/presence" ? null : isAway ? "request-lost" : { status: 200, body: { participants: [{ ...PATIENT, online, last_seen_at: online ? null : "2026-11-22T12:00:00Z" }] } });
    const conversation = open();
    const changes = [];
    chat.on("presence", ({ contact_id, online }) => changes.push([contact_id, online]));
    await clock.advance(60_000);
    assert.equal(conversation.presence.online, true);
    cut(all);
    online = false;
    await clock.advance(13_000);
    assert.deepEqual(conversation.presence, { online: false, last_seen_at: "2026-11-22T12:00:00Z" });
    isAway = true;
    await clock.advance(40_000);
    assert.deepEqual([conversation.presence, chat.cachedPresence(PATIENT), changes.at(-1)], [null, null, ["pat456", null]]);
    assert.ok(chat.retrying.some(({ work }) => work === "presence"));
    isAway = false;
    online = true;
    mend(all);
    await clock.advance(30_000);
    assert.deepEqual([conversation.state, conversation.presence.online], ["live", true]);
    const { length } = server.requests;
    await clock.advance(60_000);
    assert.equal(server.requests.length, length, "frames deliver changes again");
    chat.close();
    assert.equal(clock.waiting, 0);
  }
});

test("presence is retried, and expires without a conversation", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: (server) => server.write(PATIENT, "first message") });
  let times = 2;
  server.intercept = ({ path }) => (path === "/chat/presence" && times-- > 0 ? { status: 503, body: {} } : null);
  const conversation = open();
  await clock.advance(5_000);
  assert.equal(conversation.presence?.online, true);
  conversation.close();
  assert.equal(chat.cachedPresence(PATIENT).online, true);
  await clock.advance(61_000);
  assert.equal(chat.cachedPresence(PATIENT), null);
  await chat.presence(PATIENT);
  assert.equal(chat.cachedPresence(PATIENT).online, true);
});

for (const by of [-3_600_000, -60_000, 60_000, 86_400_000]) {
  test(`a clock set by ${by / 1000} s changes no timeout`, async () => {
    const { clock, server, chat, open } = await setUp();
    const conversation = open();
    await clock.advance(20_000);
    clock.set(by);
    await clock.advance(60_000);
    assert.deepEqual([conversation.state, server.handshakes.length], ["live", 1]);
    const [socket] = server.live;
    socket.give = () => {};
    clock.set(by);
    await clock.advance(36_000);
    assert.deepEqual([conversation.state, server.handshakes.length], ["live", 2]);
    server.intercept = () => "request-lost";
    const sent = conversation.send("waits");
    await clock.advance(2_000);
    clock.set(by);
    server.intercept = () => null;
    await clock.advance(16_000);
    assert.equal((await sent).status, "sent");
    conversation.typing();
    clock.set(by);
    await clock.advance(2_100);
    conversation.typing();
    assert.equal(server.live[0].sent.filter(({ type }) => type === "typing").length, 2);
    chat.close();
  });

  test(`a clock without \`elapsed\` set by ${by / 1000} s keeps the heartbeat`, async () => {
    const all = await setUp();
    const { clock, server } = all;
    const { connect } = await import("../src/index.js");
    const chat = await connect({
      url: "http://chat.test", token: (await import("./support/fake-server.js")).token({ user_id: "doc123" }), fetch: server.fetch, WebSocket: server.WebSocket,
      clock: { now: () => clock.now(), after: (ms, run) => clock.after(ms, run) }, random: () => 0.5,
    });
    const conversation = chat.conversation(PATIENT);
    await clock.advance(20_000);
    conversation.typing();
    clock.set(by);
    await clock.advance(2_100);
    conversation.typing();
    assert.equal(server.live[0].sent.filter(({ type }) => type === "typing").length, 2);
    server.live[0].give = () => {};
    clock.set(by);
    await clock.advance(50_000);
    assert.deepEqual([conversation.state, server.handshakes.length], ["live", 2]);
  });
}

test("a wake-up checks the connection and retries waiting work", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(30_000);
  server.live[0].give = () => {};
  clock.sleep(3_600_000);
  await clock.advance(15_500); // five seconds to detect the sleep, ten for the pong
  assert.deepEqual([conversation.state, server.handshakes.length], ["live", 2]);

  server.handshake = () => false;
  server.intercept = () => "request-lost";
  server.cutAll();
  await clock.advance(300_000);
  server.handshake = () => true;
  server.intercept = () => null;
  clock.sleep(600_000);
  await clock.advance(5_500);
  assert.equal(conversation.state, "live");
});

test("a throttled page keeps its connection and its messages", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  for (let i = 1; i <= 30; i++) {
    clock.stall(60_000);
    server.write(PATIENT, `text ${i}`);
    await clock.advance(0);
  }
  assert.deepEqual([conversation.state, conversation.messages.length, server.handshakes.length], ["live", 30, 1]);
});

test("a pong delayed by a throttled page does not end the line", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const [socket] = server.live;
  let isHeldUp = true;
  const { give } = Object.getPrototypeOf(socket);
  socket.give = (frame) => { if (!isHeldUp) give.call(socket, frame); };
  while (socket.sent.at(-1)?.type !== "ping") await clock.advance(1_000);
  clock.stall(60_000); // the pong is there, but the timeout runs before it
  await clock.advance(0);
  isHeldUp = false;
  socket.give({ type: "pong" });
  await clock.advance(60_000);
  assert.deepEqual([conversation.state, server.handshakes.length], ["live", 1]);
});

test("repeated retryNow does not hide a dead connection", async () => {
  const { clock, server, chat, open } = await setUp();
  const { token } = await import("./support/fake-server.js");
  open();
  await clock.advance(1_000);
  server.live[0].give = () => {};
  for (let i = 0; i < 20; i++) { chat.setToken(token({ user_id: "doc123" }, `t${i}`)); await clock.advance(1_000); }
  assert.equal(server.handshakes.length, 2);
});

test("Retry-After follows the server's clock and is not undercut", async () => {
  const { clock, server, chat, open } = await setUp();
  const { token } = await import("./support/fake-server.js");
  const conversation = open();
  await clock.advance(1_000);
  clock.set(3_600_000); // this machine's clock is an hour fast
  server.intercept = ({ path }) => (path === "/chat/send" ? {
    status: 503, body: {}, headers: { Date: "Sun, 22 Nov 2026 12:00:00 GMT", "Retry-After": "Sun, 22 Nov 2026 12:00:40 GMT" },
  } : null);
  conversation.send("later");
  await clock.advance(1_000);
  const count = () => server.requests.filter(({ path }) => path === "/chat/send").length;
  chat.setToken(token({ user_id: "doc123" }, "2"));
  await chat.presence(PATIENT);
  await clock.advance(38_000);
  assert.equal(count(), 1);
  server.intercept = () => null;
  await clock.advance(2_000);
  assert.deepEqual([count(), statuses(conversation)], [2, ["sent"]]);
});
