import assert from "node:assert/strict";
import { test } from "node:test";

import { DOCTOR, PATIENT, token } from "./support/fake-server.js";
import { statuses, texts, setUp } from "./support/set-up.js";

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

test("a message advances from sending to sent, delivered and read", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const sent = conversation.send("Hello");
  assert.deepEqual(statuses(conversation), ["sending"]);
  const message = await sent;
  assert.deepEqual([message.status, message.seq], ["sent", 1]);
  server.receipt("delivered", [message.id]);
  assert.deepEqual(statuses(conversation), ["delivered"]);
  server.receipt("read", [message.id]);
  assert.deepEqual(statuses(conversation), ["read"]);
});

test("messages wait in order offline and are sent once each", async () => {
  const { clock, server, chat, open, shown } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  let online = false;
  server.intercept = () => (online ? null : "request-lost");
  server.handshake = () => online;
  server.cutAll();
  for (const text of ["one", "two", "three"]) conversation.send(text);
  await clock.advance(120_000);
  assert.deepEqual(statuses(conversation), ["sending", "sending", "sending"]);
  assert.equal(conversation.state, "reconnecting");
  assert.equal(chat.pending, 3);
  online = true;
  await clock.advance(60_000);
  assert.equal(conversation.state, "live");
  assert.deepEqual(server.messages.map(({ content }) => content), ["one", "two", "three"]);
  assert.deepEqual(texts(conversation), ["one", "two", "three"]);
  assert.equal(chat.pending, 0);
  for (const screen of shown) assert.equal(new Set(screen.map(({ content }) => content)).size, screen.length, "doubled on the screen");
});

test("a lost response does not create a second message", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.cutAll(); // so that no frame confirms it
  server.handshake = () => false;
  let lost = 2;
  server.intercept = ({ path }) => (path === "/chat/send" && lost-- > 0 ? "response-lost" : null);
  const sent = conversation.send("once");
  await clock.advance(10_000);
  assert.equal((await sent).seq, 1);
  const ids = server.requests.filter(({ path }) => path === "/chat/send").map(({ body }) => body.client_message_id);
  assert.equal(new Set(ids).size, 1);
  assert.equal(server.messages.length, 1);
  assert.deepEqual(texts(conversation), ["once"]);
});

test("a frame that confirms a message ends its retries", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.intercept = ({ path }) => (path === "/chat/send" ? "response-lost" : null); // for ever
  const sent = conversation.send("received");
  assert.equal((await sent).status, "sent");
  const tries = server.requests.filter(({ path }) => path === "/chat/send").length;
  await clock.advance(120_000);
  assert.equal(server.requests.filter(({ path }) => path === "/chat/send").length, tries);
  conversation.send("behind it");
  conversation.send("and behind that");
  await clock.settle();
  assert.deepEqual(texts(conversation), ["received", "behind it", "and behind that"]);
  assert.deepEqual(statuses(conversation), ["sent", "sent", "sent"], "those behind it do not wait");
});

test("a rejected message fails alone and can be retried or discarded", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const refused = conversation.send("refuse me");
  conversation.send("fine");
  await assert.rejects(refused, ({ status, errors }) => status === 422 && errors[0].pointer === "/content");
  await clock.settle();
  assert.deepEqual(conversation.messages.map(({ content, status }) => [content, status]), [["fine", "sent"], ["refuse me", "failed"]]);
  assert.equal(conversation.messages[1].error.status, 422);
  await assert.rejects(conversation.retry(conversation.messages[1]));
  const tries = server.requests.filter(({ body }) => body?.content === "refuse me").map(({ body }) => body.client_message_id);
  assert.deepEqual(tries, [tries[0], tries[0]]);
  assert.equal(conversation.discard(conversation.messages[1]), true);
  assert.deepEqual(texts(conversation), ["fine"]);
});

test("429 and 503 are retried after Retry-After", async () => {
  for (const status of [429, 503]) {
    const { clock, server, open } = await setUp();
    const conversation = open();
    await clock.advance(1_000);
    let times = 1;
    server.intercept = ({ path }) => (path === "/chat/send" && times-- > 0 ? { status, body: { detail: "later" }, headers: { "Retry-After": "20" } } : null);
    conversation.send("patience");
    await clock.advance(19_900);
    assert.equal(server.requests.filter(({ path }) => path === "/chat/send").length, 1, String(status));
    await clock.advance(1_000);
    assert.deepEqual(statuses(conversation), ["sent"]);
  }
});

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

test("a send resolves although its message is far back by then", async () => {
  const { clock, server, open } = await setUp({ chat: { maxMessages: 100 } });
  const conversation = open();
  await clock.advance(1_000);
  const resume = server.pauseDelivery();
  server.intercept = ({ path }) => (path === "/chat/send" ? "response-lost" : null);
  const late = conversation.send("late");
  await clock.settle();
  for (let i = 2; i <= 300; i++) server.write(PATIENT, `text ${i}`);
  resume();
  server.write(PATIENT, "text 301");
  for (let i = 302; i <= 500; i++) server.write(PATIENT, `text ${i}`);
  assert.equal(conversation.pending, 1);
  server.intercept = () => null;
  await clock.advance(2_000);
  assert.deepEqual([(await late).seq, conversation.pending, statuses(conversation).includes("sending")], [1, 0, false]);
  assert.equal(server.messages.filter(({ content }) => content === "late").length, 1);
  while (conversation.messages.length < 100 && await conversation.loadOlder());
  assert.equal(conversation.hasMore, true);
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

test("closing a conversation still sends waiting messages", async () => {
  const { clock, server, chat, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.intercept = () => "request-lost";
  conversation.send("late");
  await clock.settle();
  conversation.close();
  assert.equal(chat.conversation(PATIENT), conversation, "the same as long as something waits");
  conversation.close();
  server.intercept = () => null;
  await clock.advance(20_000);
  assert.deepEqual(server.messages.map(({ content }) => content), ["late"]);
  assert.equal(chat.pending, 0);
  assert.equal(clock.waiting, 0, "timers");
  assert.notEqual(chat.conversation(PATIENT), conversation);
  chat.close();
  await clock.settle();
  assert.equal(clock.waiting, 0);
  assert.throws(() => chat.conversation(PATIENT), { code: "closed" });
});

test("too long and empty messages are rejected before they show", async () => {
  const { clock, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  await assert.rejects(conversation.send(""), { status: 422 });
  await assert.rejects(conversation.send("x".repeat(8_001)), { status: 422 });
  assert.equal(conversation.messages.length, 0);
  assert.equal((await conversation.send("😀".repeat(8_000))).status, "sent", "characters, not UTF-16 units");
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
  assert.throws(() => patient.chat.conversation({ contact_id: "pat7" }), TypeError);
});
