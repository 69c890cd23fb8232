// Lines that are slow, silent or dead, and clocks that are set.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PATIENT } from "./server.js";
import { statuses, texts, world } from "./world.js";

const LONG = "Ä".repeat(8_000);

test("a line of 20 KB/s brings pages of long messages, though one takes longer than any silence may", async () => {
  const { clock, server, chat, open } = await world({ prepare: (server) => { for (let i = 1; i <= 120; i++) server.write(PATIENT, `${i} ${LONG.slice(0, 7_990)}`); server.speed = 20_000; } });
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

test("after a page that did not come in time a smaller one is asked for, and larger ones again when they come fast", async () => {
  const { clock, server, open } = await world({ prepare: (server) => { for (let i = 1; i <= 300; i++) server.write(PATIENT, `text ${i}`); } });
  server.answer = ({ path, query }) => (path === "/chat/history" && Number(query.limit) > 5 ? "silent" : null);
  const conversation = open();
  await clock.advance(60_000);
  assert.deepEqual([conversation.loaded, conversation.state, conversation.messages.length], [true, "live", 4]);
  server.answer = () => null;
  while (await conversation.loadOlder());
  assert.equal(conversation.messages.length, 300);
  const limits = server.requests.filter(({ path }) => path === "/chat/history").map(({ query }) => Number(query.limit));
  assert.deepEqual(limits.slice(0, 3), [50, 13, 4]);
  assert.equal(limits.at(-1), 50);
});

test("pages grow again on a line where no answer can come fast, once they come steadily", async () => {
  const { clock, server, open } = await world({ prepare: (server) => { for (let i = 1; i <= 300; i++) server.write(PATIENT, `text ${i}`); } });
  let timeouts = 3;
  const late = (ms) => new Promise((answered) => clock.after(ms, () => answered(null)));
  server.answer = ({ path }) => (path !== "/chat/history" ? null : timeouts-- > 0 ? "silent" : late(1_200));
  const conversation = open();
  await clock.advance(120_000);
  const limits = () => server.requests.filter(({ path }) => path === "/chat/history").map(({ query }) => Number(query.limit));
  assert.deepEqual([conversation.loaded, limits().slice(0, 4)], [true, [50, 13, 4, 1]]);
  while (conversation.hasMore) { conversation.loadOlder(); await clock.advance(2_000); }
  assert.equal(conversation.messages.length, 300);
  assert.equal(Math.max(...limits().slice(4)), 50, limits().join());
  assert.ok(limits().length < 50, limits().join());
});

test("pages stay small on a line that is slow for a larger one", async () => {
  const { clock, server, open } = await world({ prepare: (server) => { for (let i = 1; i <= 300; i++) server.write(PATIENT, `text ${i}`); } });
  const late = (ms) => new Promise((answered) => clock.after(ms, () => answered(null)));
  server.answer = ({ path, query }) => (path === "/chat/history" ? late(Number(query.limit) > 13 ? 8_000 : 1_200) : null);
  const conversation = open();
  await clock.advance(60_000);
  while (conversation.hasMore) { conversation.loadOlder(); await clock.advance(9_000); }
  const limits = server.requests.filter(({ path }) => path === "/chat/history").map(({ query }) => Number(query.limit));
  const large = limits.slice(2).filter((limit) => limit > 13).length;
  assert.ok(large > 0 && large <= limits.length / 4, limits.join());
});

test("an answer that falls silent in its middle is given up on, and asked for again", async () => {
  const { clock, server, open } = await world({ prepare: (server) => server.write(PATIENT, LONG) });
  server.speed = 100;
  const after = clock.after.bind(clock);
  clock.after = (ms, run) => after(ms === 100 ? 20_000 : ms, run); // the pieces
  const conversation = open();
  const errors = [];
  conversation.on("state", () => errors.push(conversation.error?.code));
  await clock.advance(16_000);
  assert.deepEqual([conversation.state, errors.at(-1)], ["incomplete", "timeout"]);
  server.speed = null;
  await clock.advance(20_000);
  assert.deepEqual([conversation.state, conversation.messages.length], ["live", 1]);
});

test("an answer that trickles for ever is given up on", async () => {
  const { clock, server, open } = await world({ prepare: (server) => server.write(PATIENT, LONG) });
  server.speed = 10;
  const conversation = open();
  await clock.advance(290_000);
  assert.equal(conversation.error, null);
  await clock.advance(20_000);
  assert.equal(conversation.error?.code, "timeout");
});

test("a request that nothing ends, not even its signal, is given up on", async () => {
  const { clock, server, chat, open } = await world({ prepare: (server) => server.write(PATIENT, "one") });
  let isDeaf = true;
  server.answer = () => (isDeaf ? "deaf" : null);
  server.handshake = () => !isDeaf;
  const conversation = open();
  const inbox = chat.inbox();
  const sent = conversation.send("two");
  const presence = chat.presence(PATIENT);
  await clock.advance(16_000);
  assert.equal(await presence, null);
  assert.deepEqual(chat.retrying.map(({ error }) => error.code), Array(chat.retrying.length).fill("timeout"));
  assert.ok(chat.retrying.length >= 4);
  isDeaf = false;
  await clock.advance(45_000);
  assert.deepEqual([conversation.state, inbox.state, (await sent).status], ["live", "live", "sent"]);
});

test("a long message on a slow line may take as long to send as it needs", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  let asked = 0;
  server.answer = ({ path }) => (path === "/chat/send" ? new Promise((answer) => { asked++; clock.after(20_000, () => answer(null)); }) : null);
  server.deafen();
  const sent = conversation.send(LONG);
  await clock.advance(21_000);
  assert.equal((await sent).seq, 1);
  assert.equal(asked, 1);
});

test("history that cannot be loaded shows in the state, with its reason, and is told each time", async () => {
  const { clock, server, chat, open } = await world();
  const conversation = open();
  const inbox = chat.inbox();
  await clock.advance(1_000);
  const told = [];
  const states = [];
  chat.on("warning", ({ work, status }) => told.push(`${work} ${status}`));
  conversation.on("state", (state) => states.push(state));
  const hear = server.deafen();
  server.write(PATIENT, "missed");
  hear();
  server.answer = ({ path }) => (path === "/chat/history" || path === "/chat/conversations" ? { status: 503, body: {} } : null);
  server.ephemeral({ type: "resync" });
  await clock.advance(10_000);
  assert.deepEqual([conversation.state, conversation.error.status, inbox.state, inbox.error.status], ["incomplete", 503, "incomplete", 503]);
  assert.ok(told.filter((one) => one === "history 503").length > 2 && told.includes("inbox 503"), told.join());
  assert.deepEqual(chat.retrying.map(({ work }) => work), ["inbox", "history"]);
  server.write(PATIENT, "live all the same");
  assert.deepEqual(texts(conversation), ["live all the same"]);
  server.answer = () => null;
  await clock.advance(20_000);
  assert.deepEqual([conversation.state, conversation.error, inbox.state, texts(conversation)], ["live", null, "live", ["missed", "live all the same"]]);
  assert.deepEqual(states, ["incomplete", "live"]);
});

test("presence is polled while no frames come, and unknown when nobody can say", async () => {
  for (const [cut, mend] of [
    [({ server }) => { server.handshake = () => false; server.cutAll(); }, ({ server }) => { server.handshake = () => true; }],
    [({ server }) => server.ephemeral({ type: "degraded" }), ({ server }) => server.ephemeral({ type: "recovered" })],
  ]) {
    const all = await world({ prepare: (server) => server.write(PATIENT, "acquainted") });
    const { clock, server, chat, open } = all;
    let online = true;
    let isAway = false;
    server.answer = ({ path }) => (path !== "/chat/presence" ? null : isAway ? "lost" : { status: 200, body: { participants: [{ ...PATIENT, online, last_seen_at: online ? null : "2026-11-22T12:00:00Z" }] } });
    const conversation = open();
    const told = [];
    chat.on("presence", ({ contact_id, online }) => told.push([contact_id, online]));
    await clock.advance(60_000);
    assert.equal(conversation.presence.online, true);
    cut(all);
    online = false;
    await clock.advance(13_000);
    assert.deepEqual(conversation.presence, { online: false, last_seen_at: "2026-11-22T12:00:00Z" });
    isAway = true;
    await clock.advance(40_000);
    assert.deepEqual([conversation.presence, chat.cachedPresence(PATIENT), told.at(-1)], [null, null, ["pat456", null]]);
    assert.ok(chat.retrying.some(({ work }) => work === "presence"));
    isAway = false;
    online = true;
    mend(all);
    await clock.advance(30_000);
    assert.deepEqual([conversation.state, conversation.presence.online], ["live", true]);
    const { length } = server.requests;
    await clock.advance(60_000);
    assert.equal(server.requests.length, length, "frames tell again");
    chat.close();
    assert.equal(clock.waiting, 0);
  }
});

test("presence that could not be asked for is asked for again; of somebody without an open conversation it grows old", async () => {
  const { clock, server, chat, open } = await world({ prepare: (server) => server.write(PATIENT, "acquainted") });
  let times = 2;
  server.answer = ({ path }) => (path === "/chat/presence" && times-- > 0 ? { status: 503, body: {} } : null);
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
  test(`a clock that is set by ${by / 1000} s changes nothing: a dead line is noticed, a living one is kept`, async () => {
    const { clock, server, chat, open } = await world();
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
    server.answer = () => "lost";
    const sent = conversation.send("waits");
    await clock.advance(2_000);
    clock.set(by);
    server.answer = () => null;
    await clock.advance(16_000);
    assert.equal((await sent).status, "sent");
    conversation.typing();
    clock.set(by);
    await clock.advance(2_100);
    conversation.typing();
    assert.equal(server.live[0].sent.filter(({ type }) => type === "typing").length, 2);
    chat.close();
  });

  test(`an older clock of the page's own, without \`elapsed\`, that is set by ${by / 1000} s: a dead line is noticed`, async () => {
    const all = await world();
    const { clock, server } = all;
    const { connect } = await import("../src/index.js");
    const chat = await connect({
      url: "http://chat.test", token: (await import("./server.js")).token({ user_id: "doc123" }), fetch: server.fetch, WebSocket: server.WebSocket,
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

test("back from a sleep a line that died in it is noticed at once, and what is waited for is tried", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(30_000);
  server.live[0].give = () => {};
  clock.sleep(3_600_000);
  await clock.advance(15_500); // five seconds to notice, ten for the answer
  assert.deepEqual([conversation.state, server.handshakes.length], ["live", 2]);

  server.handshake = () => false;
  server.answer = () => "lost";
  server.cutAll();
  await clock.advance(300_000);
  server.handshake = () => true;
  server.answer = () => null;
  clock.sleep(600_000);
  await clock.advance(5_500);
  assert.equal(conversation.state, "live");
});

test("a page that is seldom let run keeps a living line, and what came meanwhile", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  for (let i = 1; i <= 30; i++) {
    clock.stall(60_000);
    server.write(PATIENT, `text ${i}`);
    await clock.advance(0);
  }
  assert.deepEqual([conversation.state, conversation.messages.length, server.handshakes.length], ["live", 30, 1]);
});

test("an answer that is late because the page was not let run does not cost the line", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  const [socket] = server.live;
  let isHeldUp = true;
  const { give } = Object.getPrototypeOf(socket);
  socket.give = (frame) => { if (!isHeldUp) give.call(socket, frame); };
  while (socket.sent.at(-1)?.type !== "ping") await clock.advance(1_000);
  clock.stall(60_000); // the answer is there, but so is the end of the wait for it, which comes first
  await clock.advance(0);
  isHeldUp = false;
  socket.give({ type: "pong" });
  await clock.advance(60_000);
  assert.deepEqual([conversation.state, server.handshakes.length], ["live", 1]);
});

test("whoever calls for haste again and again does not hide that the line is dead", async () => {
  const { clock, server, chat, open } = await world();
  const { token } = await import("./server.js");
  open();
  await clock.advance(1_000);
  server.live[0].give = () => {};
  for (let i = 0; i < 20; i++) { chat.setToken(token({ user_id: "doc123" }, `t${i}`)); await clock.advance(1_000); }
  assert.equal(server.handshakes.length, 2);
});

test("Retry-After is counted by the server's clock, and not undercut by good news or by other work that succeeds", async () => {
  const { clock, server, chat, open } = await world();
  const { token } = await import("./server.js");
  const conversation = open();
  await clock.advance(1_000);
  clock.set(3_600_000); // this machine's clock is an hour fast
  server.answer = ({ path }) => (path === "/chat/send" ? {
    status: 503, body: {}, headers: { Date: "Sun, 22 Nov 2026 12:00:00 GMT", "Retry-After": "Sun, 22 Nov 2026 12:00:40 GMT" },
  } : null);
  conversation.send("later");
  await clock.advance(1_000);
  const count = () => server.requests.filter(({ path }) => path === "/chat/send").length;
  chat.setToken(token({ user_id: "doc123" }, "2"));
  await chat.presence(PATIENT);
  await clock.advance(38_000);
  assert.equal(count(), 1);
  server.answer = () => null;
  await clock.advance(2_000);
  assert.deepEqual([count(), statuses(conversation)], [2, ["sent"]]);
});
