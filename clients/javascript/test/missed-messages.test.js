// Messages that frames did not bring: after a reconnect, a `resync`, a gap, or without frames. A load starts at the largest `seq` without
// a gap before it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { DOCTOR, PATIENT, token } from "./support/fake-server.js";
import { setUp, statuses, texts } from "./support/set-up.js";

test("a reconnect resumes with the last cursor", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.write(PATIENT, "before");
  const seen = server.log.at(-1).cursor;
  server.cutAll();
  assert.equal(conversation.state, "reconnecting");
  server.write(PATIENT, "meanwhile");
  await clock.advance(1_000);
  assert.equal(server.handshakes.at(-1).query.cursor, seen);
  assert.deepEqual(texts(conversation), ["before", "meanwhile"]);
});

for (const [name, lose] of [
  ["resumed: false", (server) => { server.log.length = 0; server.cutAll(); }],
  ["resync", (server) => server.broadcast({ type: "resync" })],
]) {
  test(`missed messages and receipts are loaded after ${name}`, async () => {
    const { clock, server, open } = await setUp();
    const conversation = open();
    await clock.advance(1_000);
    for (let i = 1; i <= 100; i++) server.write(DOCTOR, `mine ${i}`);
    const announced = [];
    conversation.on("message", ({ content }) => announced.push(content));
    const resume = server.pauseDelivery();
    server.receipt("read", server.messages.slice(0, 30).map(({ id }) => id));
    for (let i = 1; i <= 250; i++) server.write(PATIENT, `missed ${i}`);
    resume();
    lose(server);
    await clock.advance(2_000);
    assert.deepEqual(conversation.messages.map(({ seq }) => seq), server.messages.map(({ seq }) => seq));
    assert.deepEqual(statuses(conversation).slice(0, 31), [...Array(30).fill("read"), "sent"]);
    assert.deepEqual(announced, Array.from({ length: 250 }, (_, index) => `missed ${index + 1}`));
  });
}

test("a gap before the first message is loaded", async () => {
  for (const missed of [1, 49, 50, 51, 199, 200, 201, 400]) {
    for (const own of [0, 1, 3]) {
      const { clock, server, open } = await setUp();
      const conversation = open();
      await clock.advance(1_000);
      const resume = server.pauseDelivery();
      for (let i = 1; i <= missed; i++) server.write(PATIENT, `missed ${i}`);
      for (let i = 1; i <= own; i++) await conversation.send(`mine ${i}`); // the first message that the client has
      for (let i = 1; i <= missed; i++) server.write(PATIENT, `missed too ${i}`);
      resume();
      server.log.length = 0;
      server.cutAll();
      await clock.advance(2_000);
      assert.deepEqual(conversation.messages.map(({ seq }) => seq), server.messages.map(({ seq }) => seq), `${missed} missed, ${own} own`);
      assert.equal(conversation.hasMore, false);
    }
  }
});

test("the first message is loaded when the second overtakes it", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const resume = server.pauseDelivery();
  server.write(PATIENT, "one");
  resume();
  server.write(PATIENT, "two");
  assert.deepEqual(texts(conversation), ["two"]);
  await clock.advance(2_000);
  assert.deepEqual(texts(conversation), ["one", "two"]);
});

for (const [name, wait, answers, expected] of [
  ["new messages are shown at once and announced behind it", 0, () => new Promise((answer) => setImmediate(answer, null)), ["missed 1", "missed 2", "live"]],
  ["new messages are announced in time from a slow server", 2_000, ({ path }, clock) => (path === "/chat/history" ? new Promise((answer) => clock.after(5_000, () => answer(null))) : null), ["live", "missed 1", "missed 2"]],
  ["new messages are announced in time without a server", 0, ({ path }) => (path === "/chat/history" ? { status: 503, body: {} } : null), ["live"]],
]) {
  test(`during the load of a gap ${name}`, async () => {
    const { clock, server, open } = await setUp();
    const conversation = open();
    await clock.advance(1_000);
    const announced = [];
    conversation.on("message", ({ content }) => announced.push(content));
    const resume = server.pauseDelivery();
    for (let i = 1; i <= 2; i++) server.write(PATIENT, `missed ${i}`);
    resume();
    server.intercept = (request) => answers(request, clock);
    server.broadcast({ type: "resync" });
    server.write(PATIENT, "live");
    assert.deepEqual([texts(conversation), announced], [["live"], []]);
    await clock.advance(wait);
    assert.deepEqual(announced.slice(0, 1), expected.slice(0, 1));
    await clock.advance(10_000);
    assert.deepEqual(announced, expected);
  });
}

test("messages before the first page are announced", async () => {
  for (const answer of [{ status: 503, body: {} }, "slow"]) {
    const { clock, server, open } = await setUp();
    server.intercept = ({ path }) => (path !== "/chat/history" ? null : answer === "slow" ? new Promise((give) => clock.after(300, () => give(null))) : answer);
    const conversation = open();
    const announced = [];
    conversation.on("message", ({ content }) => announced.push(content));
    await clock.advance(100);
    assert.equal(conversation.state, answer === "slow" ? "live" : "incomplete");
    server.write(PATIENT, "one");
    server.write(PATIENT, "two");
    await clock.advance(1_000);
    server.intercept = () => null;
    await clock.advance(30_000);
    server.write(PATIENT, "three");
    assert.deepEqual([texts(conversation), announced], [["one", "two", "three"], ["one", "two", "three"]]);
  }
});

test("a message lost during the first load is loaded", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => { for (let i = 1; i <= 10; i++) server.write(PATIENT, `text ${i}`); } });
  let give;
  let asked = 0;
  server.intercept = ({ path }) => {
    if (path !== "/chat/history" || ++asked > 2) return null;
    if (asked === 1) return { status: 503, body: {} };
    const messages = structuredClone(server.messages);
    return new Promise((resolve) => { give = () => resolve({ status: 200, body: { conversation_id: "c1", messages, has_more: false } }); });
  };
  const conversation = open();
  while (!give) await clock.advance(100);
  const resume = server.pauseDelivery();
  server.write(PATIENT, "lost");
  resume();
  server.write(PATIENT, "received");
  give();
  await clock.advance(3_000);
  assert.equal(conversation.messages.length, 12);
});

test("a gap that the server cannot fill is loaded once", async () => {
  const { clock, server, open } = await setUp();
  open();
  await clock.advance(1_000);
  for (let i = 1; i <= 4; i++) server.write(PATIENT, `text ${i}`);
  server.intercept = ({ path }) => (path === "/chat/history" ? { status: 200, body: { conversation_id: "c1", messages: structuredClone(server.messages.filter(({ seq }) => seq !== 5)), has_more: false } } : null);
  const resume = server.pauseDelivery();
  server.write(PATIENT, "erased");
  resume();
  server.write(PATIENT, "text 6");
  const { length } = server.requests;
  await clock.advance(60_000);
  assert.equal(server.requests.slice(length).filter(({ path }) => path === "/chat/history").length, 1);
});

test("a load refused for its token runs again with another token", async () => {
  const { clock, server, chat, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const resume = server.pauseDelivery();
  server.write(PATIENT, "missed");
  resume();
  server.refusedTokens.add(token(DOCTOR));
  server.broadcast({ type: "resync" });
  await clock.advance(1_000);
  assert.deepEqual(texts(conversation), []);
  chat.setToken(token(DOCTOR, "2"));
  await clock.advance(1_000);
  assert.deepEqual(texts(conversation), ["missed"]);
  const { length } = server.requests;
  chat.setToken(token(DOCTOR, "3"));
  await clock.advance(1_000);
  assert.equal(server.requests.length, length, "made up for once");
});

test("after an outage missed messages are announced before new ones", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const announced = [];
  conversation.on("message", ({ content }) => announced.push(content));
  server.handshake = () => false;
  server.intercept = () => "request-lost";
  server.cutAll();
  await clock.advance(60_000);
  server.write(PATIENT, "missed");
  server.log.length = 0;
  server.handshake = () => true;
  server.intercept = () => null;
  while (conversation.state !== "live") await clock.advance(10);
  server.write(PATIENT, "live");
  await clock.advance(100);
  assert.deepEqual([texts(conversation), announced], [["missed", "live"], ["missed", "live"]]);
});

test("an older page is dropped when the timeline has started over", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => { for (let i = 1; i <= 200; i++) server.write(PATIENT, `text ${i}`); } });
  const conversation = open();
  await clock.advance(1_000);
  let give;
  server.intercept = ({ path, query }) => (path === "/chat/history" && query.before ? new Promise((answer) => { give = () => answer(null); }) : null);
  const older = conversation.loadOlder();
  await clock.settle();
  const resume = server.pauseDelivery();
  for (let i = 201; i <= 1_500; i++) server.write(PATIENT, `text ${i}`);
  resume();
  server.broadcast({ type: "resync" });
  await clock.advance(1_000);
  give();
  assert.equal(await older, true);
  assert.deepEqual(conversation.messages.map(({ seq }) => seq), Array.from({ length: 50 }, (_, index) => 1_451 + index));
});

test("messages of a page are announced before the next page loads", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const announced = [];
  conversation.on("message", ({ content }) => announced.push(content));
  const resume = server.pauseDelivery();
  server.write(PATIENT, "missed");
  resume();
  let asked = 0;
  server.intercept = ({ path }) => (path === "/chat/history" && ++asked === 2 ? "no-response" : null);
  server.broadcast({ type: "resync" });
  server.broadcast({ type: "resync" });
  await clock.settle();
  assert.deepEqual([asked, texts(conversation), announced], [2, ["missed"], ["missed"]]);
});

test("a long absence starts over with the newest page", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => server.write(PATIENT, "long ago") });
  const conversation = open();
  await clock.advance(1_000);
  server.cutAll();
  server.handshake = () => false;
  server.intercept = () => "request-lost";
  for (let i = 2; i <= 3_000; i++) server.write(PATIENT, `text ${i}`);
  server.log.length = 0;
  server.handshake = () => true;
  server.intercept = () => null;
  let written = 0;
  server.intercept = ({ query }) => { // one more message arrives during the load of the newest page
    if (query.limit === "50" && query.after === undefined) queueMicrotask(() => { if (written++ === 0) server.write(PATIENT, "live"); });
    return null;
  };
  await clock.advance(20_000);
  assert.equal(conversation.messages.at(-1).seq, 3_001);
  assert.equal(conversation.hasMore, true);
  while (await conversation.loadOlder());
  assert.deepEqual(conversation.messages.map(({ seq }) => seq), server.messages.map(({ seq }) => seq));
});

test("a message that overtakes is shown at once, its gap is loaded", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.write(PATIENT, "one");
  const resume = server.pauseDelivery();
  server.write(PATIENT, "two");
  resume();
  server.write(PATIENT, "three");
  assert.deepEqual(texts(conversation), ["one", "three"]);
  await clock.advance(2_000);
  assert.deepEqual(texts(conversation), ["one", "two", "three"]);
});

test("a degraded conversation polls until the relay recovers", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.broadcast({ type: "degraded" });
  assert.equal(conversation.state, "degraded");
  const resume = server.pauseDelivery();
  server.write(PATIENT, "without relay");
  resume();
  await clock.advance(6_000);
  assert.deepEqual(texts(conversation), ["without relay"]);
  server.broadcast({ type: "recovered" });
  assert.equal(conversation.state, "live");
  await clock.settle(); // presence is requested once more
  const { length } = server.requests;
  await clock.advance(20_000);
  assert.equal(server.requests.length, length);
});

/** A conversation that has received 54 but not 29, as when one API service falls behind. */
async function withGap(options = {}) {
  const all = await setUp(options);
  const { clock, server, open } = all;
  const conversation = open();
  const announced = [];
  conversation.on("message", ({ seq }) => announced.push(seq));
  await clock.advance(1_000);
  for (let i = 1; i <= 28; i++) server.write(PATIENT, `text ${i}`);
  const resume = server.pauseDelivery();
  server.write(PATIENT, "text 29");
  resume();
  const late = server.log.pop();
  for (let i = 30; i <= 54; i++) server.write(PATIENT, `text ${i}`);
  const complete = () => assert.deepEqual(conversation.messages.map(({ seq }) => seq), server.messages.map(({ seq }) => seq));
  return { ...all, conversation, announced, late, complete };
}

const historyRequests = (server, from = 0) => server.requests.slice(from).filter(({ path }) => path === "/chat/history").map(({ query }) => query);

test("a late message takes its place without a load", async () => {
  const { clock, server, conversation, late, complete } = await withGap();
  assert.equal(conversation.messages.length, 53);
  const { length } = server.requests;
  await clock.advance(1_000);
  server.broadcast(late);
  complete();
  await clock.advance(60_000);
  assert.deepEqual(historyRequests(server, length), []);
});

test("a missing message is loaded from the one before it", async () => {
  const { clock, server, conversation, announced, complete } = await withGap();
  await clock.advance(2_000);
  complete();
  assert.ok(Number(historyRequests(server).at(-1).after) <= 28);
  assert.equal(conversation.state, "live");
  assert.equal(new Set(announced).size, 54);
});

for (const [name, happens] of [
  ["a reconnect that resumes", ({ server }) => server.cutAll(1006)],
  ["a reconnect that cannot resume", ({ server }) => { server.log.length = 0; server.cutAll(1006); }],
  ["`resync`", ({ server }) => server.broadcast({ type: "resync" })],
  ["`degraded`, `resync` and `recovered`", ({ server }) => { for (const type of ["degraded", "resync", "recovered"]) server.broadcast({ type }); }],
]) {
  for (const outage of [0, 20_000]) {
    test(`a gap is loaded after ${name} and ${outage / 1000} s without HTTP`, async () => {
      const all = await withGap();
      const { clock, server, conversation, complete } = all;
      server.intercept = ({ path }) => (path === "/chat/history" ? "request-lost" : null);
      happens(all);
      await clock.advance(outage);
      const { length } = server.requests;
      const resume = server.pauseDelivery();
      for (let i = 55; i <= 60; i++) server.write(PATIENT, `text ${i}`);
      resume();
      server.write(PATIENT, "text 61");
      server.intercept = () => null;
      await clock.advance(30_000);
      complete();
      assert.equal(conversation.state, "live");
      const asked = historyRequests(server, length).filter(({ limit }) => limit !== "1");
      assert.ok(asked.length > 0 && Number(asked[0].after) <= 28, JSON.stringify(asked));
    });
  }
}

test("each page starts at the first gap that is left", async () => {
  const { clock, server, conversation, complete } = await withGap();
  const resume = server.pauseDelivery();
  for (let i = 55; i <= 80; i++) server.write(PATIENT, `text ${i}`);
  resume();
  server.write(PATIENT, "text 81");
  server.intercept = async ({ path, query }) => { // as a server whose pages are limited in bytes
    if (path !== "/chat/history" || query.after === undefined) return null;
    const found = server.messages.filter(({ seq }) => seq > Number(query.after));
    return { status: 200, body: { conversation_id: "c1", messages: structuredClone(found.slice(0, 7)), has_more: found.length > 7 } };
  };
  await clock.advance(2_000);
  complete();
  assert.deepEqual([conversation.state, conversation.messages.length], ["live", 81]);
});

test("a refetch loads the gap and older receipts", async () => {
  const { clock, server, conversation, complete } = await withGap();
  server.messages.forEach((message) => { message.delivered_at ??= message.sent_at; });
  server.broadcast({ type: "resync" });
  await clock.advance(2_000);
  complete();
  assert.ok(conversation.messages.every(({ delivered_at }) => delivered_at));
});
