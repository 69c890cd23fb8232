import assert from "node:assert/strict";
import { test } from "node:test";

import { DOCTOR, PATIENT, token } from "./server.js";
import { statuses, texts, world } from "./world.js";

test("history and live messages join, in order, and each new one is announced once", async () => {
  const { clock, server, open } = await world({ prepare: (server) => { for (let i = 1; i <= 60; i++) server.write(PATIENT, `old ${i}`); } });
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

test("a message is shown at once, then sent, delivered and read", async () => {
  const { clock, server, open } = await world();
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

test("offline, messages wait in order; back online they are sent once each", async () => {
  const { clock, server, chat, open, shown } = await world();
  const conversation = open();
  await clock.advance(1_000);
  let online = false;
  server.answer = () => (online ? null : "lost");
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

test("an answer that got lost does not make a second message", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  server.cutAll(); // so that the socket does not tell either
  server.handshake = () => false;
  let lost = 2;
  server.answer = ({ path }) => (path === "/chat/send" && lost-- > 0 ? "unheard" : null);
  const sent = conversation.send("once");
  await clock.advance(10_000);
  assert.equal((await sent).seq, 1);
  const ids = server.requests.filter(({ path }) => path === "/chat/send").map(({ body }) => body.client_message_id);
  assert.equal(new Set(ids).size, 1);
  assert.equal(server.messages.length, 1);
  assert.deepEqual(texts(conversation), ["once"]);
});

test("the socket's word that a message arrived ends its retries", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  server.answer = ({ path }) => (path === "/chat/send" ? "unheard" : null); // for ever
  const sent = conversation.send("heard");
  assert.equal((await sent).status, "sent");
  const tries = server.requests.filter(({ path }) => path === "/chat/send").length;
  await clock.advance(120_000);
  assert.equal(server.requests.filter(({ path }) => path === "/chat/send").length, tries);
  conversation.send("behind it");
  conversation.send("and behind that");
  await clock.settle();
  assert.deepEqual(texts(conversation), ["heard", "behind it", "and behind that"]);
  assert.deepEqual(statuses(conversation), ["sent", "sent", "sent"], "those behind it do not wait");
});

test("a refused message fails alone, can be tried again as the same message, or be discarded", async () => {
  const { clock, server, open } = await world();
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

test("Retry-After is honoured, and 429 and 503 are tried again", async () => {
  for (const status of [429, 503]) {
    const { clock, server, open } = await world();
    const conversation = open();
    await clock.advance(1_000);
    let times = 1;
    server.answer = ({ path }) => (path === "/chat/send" && times-- > 0 ? { status, body: { detail: "later" }, headers: { "Retry-After": "20" } } : null);
    conversation.send("patience");
    await clock.advance(19_900);
    assert.equal(server.requests.filter(({ path }) => path === "/chat/send").length, 1, String(status));
    await clock.advance(1_000);
    assert.deepEqual(statuses(conversation), ["sent"]);
  }
});

test("cut off, it resumes with the cursor of what it saw last", async () => {
  const { clock, server, open } = await world();
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
  ["resync", (server) => server.ephemeral({ type: "resync" })],
]) {
  test(`after ${name} what was missed is loaded, receipts of older messages included`, async () => {
    const { clock, server, open } = await world();
    const conversation = open();
    await clock.advance(1_000);
    for (let i = 1; i <= 100; i++) server.write(DOCTOR, `mine ${i}`);
    const announced = [];
    conversation.on("message", ({ content }) => announced.push(content));
    const hear = server.deafen();
    server.receipt("read", server.messages.slice(0, 30).map(({ id }) => id));
    for (let i = 1; i <= 250; i++) server.write(PATIENT, `missed ${i}`);
    hear();
    lose(server);
    await clock.advance(2_000);
    assert.deepEqual(conversation.messages.map(({ seq }) => seq), server.messages.map(({ seq }) => seq));
    assert.deepEqual(statuses(conversation).slice(0, 31), [...Array(30).fill("read"), "sent"]);
    assert.deepEqual(announced, Array.from({ length: 250 }, (_, index) => `missed ${index + 1}`));
  });
}

test("missed before anything was there: it is loaded from the very first message", async () => {
  for (const missed of [1, 49, 50, 51, 199, 200, 201, 400]) {
    for (const own of [0, 1, 3]) {
      const { clock, server, open } = await world();
      const conversation = open();
      await clock.advance(1_000);
      const hear = server.deafen();
      for (let i = 1; i <= missed; i++) server.write(PATIENT, `missed ${i}`);
      for (let i = 1; i <= own; i++) await conversation.send(`mine ${i}`); // the first message of all that is here
      for (let i = 1; i <= missed; i++) server.write(PATIENT, `missed too ${i}`);
      hear();
      server.log.length = 0;
      server.cutAll();
      await clock.advance(2_000);
      assert.deepEqual(conversation.messages.map(({ seq }) => seq), server.messages.map(({ seq }) => seq), `${missed} missed, ${own} own`);
      assert.equal(conversation.hasMore, false);
    }
  }
});

test("the first message of all overtaken by the second is missed, and loaded", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  const hear = server.deafen();
  server.write(PATIENT, "one");
  hear();
  server.write(PATIENT, "two");
  assert.deepEqual(texts(conversation), ["two"]);
  await clock.advance(2_000);
  assert.deepEqual(texts(conversation), ["one", "two"]);
});

for (const [name, wait, answers, expected] of [
  ["what comes by the socket meanwhile is shown at once and told behind it", 0, () => new Promise((answer) => setImmediate(answer, null)), ["missed 1", "missed 2", "live"]],
  ["unless the server takes its time: nobody is called late", 2_000, ({ path }, clock) => (path === "/chat/history" ? new Promise((answer) => clock.after(5_000, () => answer(null))) : null), ["live", "missed 1", "missed 2"]],
  ["or has none: nobody is called late", 0, ({ path }) => (path === "/chat/history" ? { status: 503, body: {} } : null), ["live"]],
]) {
  test(`while what was missed is loaded, ${name}`, async () => {
    const { clock, server, open } = await world();
    const conversation = open();
    await clock.advance(1_000);
    const announced = [];
    conversation.on("message", ({ content }) => announced.push(content));
    const hear = server.deafen();
    for (let i = 1; i <= 2; i++) server.write(PATIENT, `missed ${i}`);
    hear();
    server.answer = (request) => answers(request, clock);
    server.ephemeral({ type: "resync" });
    server.write(PATIENT, "live");
    assert.deepEqual([texts(conversation), announced], [["live"], []]);
    await clock.advance(wait);
    assert.deepEqual(announced.slice(0, 1), expected.slice(0, 1));
    await clock.advance(10_000);
    assert.deepEqual(announced, expected);
  });
}

test("what comes before the first page is here is told, however long that takes", async () => {
  for (const answer of [{ status: 503, body: {} }, "slow"]) {
    const { clock, server, open } = await world();
    server.answer = ({ path }) => (path !== "/chat/history" ? null : answer === "slow" ? new Promise((give) => clock.after(300, () => give(null))) : answer);
    const conversation = open();
    const announced = [];
    conversation.on("message", ({ content }) => announced.push(content));
    await clock.advance(100);
    assert.equal(conversation.state, answer === "slow" ? "live" : "incomplete");
    server.write(PATIENT, "one");
    server.write(PATIENT, "two");
    await clock.advance(1_000);
    server.answer = () => null;
    await clock.advance(30_000);
    server.write(PATIENT, "three");
    assert.deepEqual([texts(conversation), announced], [["one", "two", "three"], ["one", "two", "three"]]);
  }
});

test("one that gets lost while the first page is under way is missed", async () => {
  const { clock, server, open } = await world({ prepare: (server) => { for (let i = 1; i <= 10; i++) server.write(PATIENT, `text ${i}`); } });
  let give;
  let asked = 0;
  server.answer = ({ path }) => {
    if (path !== "/chat/history" || ++asked > 2) return null;
    if (asked === 1) return { status: 503, body: {} };
    const messages = structuredClone(server.messages);
    return new Promise((resolve) => { give = () => resolve({ status: 200, body: { conversation_id: "c1", messages, has_more: false } }); });
  };
  const conversation = open();
  while (!give) await clock.advance(100);
  const hear = server.deafen();
  server.write(PATIENT, "lost");
  hear();
  server.write(PATIENT, "heard");
  give();
  await clock.advance(3_000);
  assert.equal(conversation.messages.length, 12);
});

test("what the server does not have is not asked for again and again", async () => {
  const { clock, server, open } = await world();
  open();
  await clock.advance(1_000);
  for (let i = 1; i <= 4; i++) server.write(PATIENT, `text ${i}`);
  server.answer = ({ path }) => (path === "/chat/history" ? { status: 200, body: { conversation_id: "c1", messages: structuredClone(server.messages.filter(({ seq }) => seq !== 5)), has_more: false } } : null);
  const hear = server.deafen();
  server.write(PATIENT, "erased");
  hear();
  server.write(PATIENT, "text 6");
  const { length } = server.requests;
  await clock.advance(60_000);
  assert.equal(server.requests.slice(length).filter(({ path }) => path === "/chat/history").length, 1);
});

test("a reload that is refused for its token is made up for when another one comes", async () => {
  const { clock, server, chat, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  const hear = server.deafen();
  server.write(PATIENT, "missed");
  hear();
  server.refusedTokens.add(token(DOCTOR));
  server.ephemeral({ type: "resync" });
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

test("back from an outage what was missed is loaded at once, and told before what comes then", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  const announced = [];
  conversation.on("message", ({ content }) => announced.push(content));
  server.handshake = () => false;
  server.answer = () => "lost";
  server.cutAll();
  await clock.advance(60_000);
  server.write(PATIENT, "missed");
  server.log.length = 0;
  server.handshake = () => true;
  server.answer = () => null;
  while (conversation.state !== "live") await clock.advance(10);
  server.write(PATIENT, "live");
  await clock.advance(100);
  assert.deepEqual([texts(conversation), announced], [["missed", "live"], ["missed", "live"]]);
});

test("closed, it loads, tells and reports nothing any more, whatever was under way", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  const announced = [];
  conversation.on("message", ({ content }) => announced.push(content));
  const give = {};
  server.answer = ({ path }) => (path === "/chat/send" || path === "/chat/history" ? new Promise((answer) => { give[path] = () => answer(null); }) : null);
  server.ephemeral({ type: "resync" });
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

test("closed before the first page is here, it takes none; opened again, it is as new", async () => {
  const { clock, server, chat, open } = await world({ prepare: (server) => server.write(PATIENT, "was there") });
  let give;
  server.answer = ({ path }) => (path === "/chat/history" ? new Promise((answer) => { give = () => answer(null); }) : path === "/chat/send" ? "lost" : null);
  const conversation = open();
  conversation.send("waits");
  await clock.settle();
  conversation.close();
  give();
  await clock.settle();
  assert.deepEqual([texts(conversation), conversation.loaded, server.messages[0].delivered_at], [["waits"], false, null]);
  server.answer = ({ path }) => (path === "/chat/read" ? "lost" : null);
  assert.equal(chat.conversation(PATIENT), conversation);
  await clock.advance(20_000);
  assert.deepEqual([texts(conversation), conversation.loaded], [["was there", "waits"], true]);
  const read = conversation.markRead();
  await clock.advance(1_000);
  server.answer = () => null;
  await clock.advance(20_000);
  await read;
  assert.equal(statuses(conversation)[0], "read", "tried again, as long as it is open");
});

test("older messages that come when the conversation has begun anew are not taken", async () => {
  const { clock, server, open } = await world({ prepare: (server) => { for (let i = 1; i <= 200; i++) server.write(PATIENT, `text ${i}`); } });
  const conversation = open();
  await clock.advance(1_000);
  let give;
  server.answer = ({ path, query }) => (path === "/chat/history" && query.before ? new Promise((answer) => { give = () => answer(null); }) : null);
  const older = conversation.loadOlder();
  await clock.settle();
  const hear = server.deafen();
  for (let i = 201; i <= 1_500; i++) server.write(PATIENT, `text ${i}`);
  hear();
  server.ephemeral({ type: "resync" });
  await clock.advance(1_000);
  give();
  assert.equal(await older, true);
  assert.deepEqual(conversation.messages.map(({ seq }) => seq), Array.from({ length: 50 }, (_, index) => 1_451 + index));
});

test("whoever reads and leaves has read it; what cannot be told then is not tried for ever", async () => {
  for (const lost of [false, true]) {
    const { clock, server, open } = await world({ prepare: (server) => server.write(PATIENT, "read this") });
    const conversation = open();
    await clock.advance(1_000);
    if (lost) server.answer = ({ path }) => (path === "/chat/read" ? "lost" : null);
    const told = conversation.markRead();
    conversation.close();
    if (lost) await assert.rejects(told, { code: "network" });
    else await told;
    await clock.advance(1_000);
    assert.equal(Boolean(server.messages[0].read_at), !lost);
    assert.equal(clock.waiting, 0, "timers");
  }
});

test("what a page brings is told with it, though another one is asked for", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  const announced = [];
  conversation.on("message", ({ content }) => announced.push(content));
  const hear = server.deafen();
  server.write(PATIENT, "missed");
  hear();
  let asked = 0;
  server.answer = ({ path }) => (path === "/chat/history" && ++asked === 2 ? "silent" : null);
  server.ephemeral({ type: "resync" });
  server.ephemeral({ type: "resync" });
  await clock.settle();
  assert.deepEqual([asked, texts(conversation), announced], [2, ["missed"], ["missed"]]);
});

test("closed while something waits to be told, it is told", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  const announced = [];
  conversation.on("message", ({ content }) => announced.push(content));
  server.answer = () => "silent";
  server.ephemeral({ type: "resync" });
  server.write(PATIENT, "behind nothing");
  assert.deepEqual(announced, ["behind nothing"], "what waits for none is told");
  const hear = server.deafen();
  server.write(PATIENT, "missed");
  hear();
  server.write(PATIENT, "live");
  assert.deepEqual(announced, ["behind nothing"]);
  conversation.close();
  assert.deepEqual(announced, ["behind nothing", "live"]);
  assert.equal(clock.waiting, 0, "timers");
});

test("whoever was away for thousands of messages begins anew with the newest, and can page back", async () => {
  const { clock, server, open } = await world({ prepare: (server) => server.write(PATIENT, "long ago") });
  const conversation = open();
  await clock.advance(1_000);
  server.cutAll();
  server.handshake = () => false;
  server.answer = () => "lost";
  for (let i = 2; i <= 3_000; i++) server.write(PATIENT, `text ${i}`);
  server.log.length = 0;
  server.handshake = () => true;
  server.answer = () => null;
  let told = 0;
  server.answer = ({ query }) => { // while the newest page is read, one more comes
    if (query.limit === "50" && query.after === undefined) queueMicrotask(() => { if (told++ === 0) server.write(PATIENT, "live"); });
    return null;
  };
  await clock.advance(20_000);
  assert.equal(conversation.messages.at(-1).seq, 3_001);
  assert.equal(conversation.hasMore, true);
  while (await conversation.loadOlder());
  assert.deepEqual(conversation.messages.map(({ seq }) => seq), server.messages.map(({ seq }) => seq));
});

test("a send whose answer took so long that the message is far back by then resolves, and waits no more", async () => {
  const { clock, server, open } = await world({ chat: { maxMessages: 100 } });
  const conversation = open();
  await clock.advance(1_000);
  const hear = server.deafen();
  server.answer = ({ path }) => (path === "/chat/send" ? "unheard" : null);
  const late = conversation.send("late");
  await clock.settle();
  for (let i = 2; i <= 300; i++) server.write(PATIENT, `text ${i}`);
  hear();
  server.write(PATIENT, "text 301");
  for (let i = 302; i <= 500; i++) server.write(PATIENT, `text ${i}`);
  assert.equal(conversation.pending, 1);
  server.answer = () => null;
  await clock.advance(2_000);
  assert.deepEqual([(await late).seq, conversation.pending, statuses(conversation).includes("sending")], [1, 0, false]);
  assert.equal(server.messages.filter(({ content }) => content === "late").length, 1);
  while (conversation.messages.length < 100 && await conversation.loadOlder());
  assert.equal(conversation.hasMore, true);
});

test("a message that overtakes another waits for nobody, and a gap that stays is loaded", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  server.write(PATIENT, "one");
  const hear = server.deafen();
  server.write(PATIENT, "two");
  hear();
  server.write(PATIENT, "three");
  assert.deepEqual(texts(conversation), ["one", "three"]);
  await clock.advance(2_000);
  assert.deepEqual(texts(conversation), ["one", "two", "three"]);
});

test("degraded, it polls the history, and stops when the relay has recovered", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  server.ephemeral({ type: "degraded" });
  assert.equal(conversation.state, "degraded");
  const hear = server.deafen();
  server.write(PATIENT, "without relay");
  hear();
  await clock.advance(6_000);
  assert.deepEqual(texts(conversation), ["without relay"]);
  server.ephemeral({ type: "recovered" });
  assert.equal(conversation.state, "live");
  await clock.settle(); // presence is asked for once more
  const { length } = server.requests;
  await clock.advance(20_000);
  assert.equal(server.requests.length, length);
});

test("what came by HTTP is told to be delivered; what is read is told once, in one request", async () => {
  const { clock, server, open } = await world({ prepare: (server) => { for (let i = 1; i <= 3; i++) server.write(PATIENT, `text ${i}`); } });
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

test("typing is passed on now and then, shown for a while, and ended by a message", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  for (let i = 0; i < 40; i++) { conversation.typing(); await clock.advance(100); }
  assert.equal(server.live[0].sent.filter(({ type }) => type === "typing").length, 2);
  server.ephemeral({ type: "typing", ...DOCTOR });
  assert.equal(conversation.peerTyping, false, "one's own other window");
  server.ephemeral({ type: "typing", ...PATIENT });
  assert.equal(conversation.peerTyping, true);
  await clock.advance(4_900);
  assert.equal(conversation.peerTyping, true);
  await clock.advance(200);
  assert.equal(conversation.peerTyping, false);
  server.ephemeral({ type: "typing", ...PATIENT });
  server.write(PATIENT, "there");
  assert.equal(conversation.peerTyping, false);
});

test("memory is bounded: the oldest make room for the newest, and can be loaded no further than there is room", async () => {
  const { clock, server, open } = await world({
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
  server.answer = ({ path }) => (path === "/chat/send" ? "lost" : null);
  for (let i = 0; i < 500; i++) conversation.send(`waiting ${i}`);
  await assert.rejects(conversation.send("too many"), { code: "outbox_full" });
});

test("closing a conversation still sends what waits, and leaves nothing behind", async () => {
  const { clock, server, chat, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  server.answer = () => "lost";
  conversation.send("late");
  await clock.settle();
  conversation.close();
  assert.equal(chat.conversation(PATIENT), conversation, "the same as long as something waits");
  conversation.close();
  server.answer = () => null;
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

test("too long and empty messages are refused before anybody sees them", async () => {
  const { clock, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  await assert.rejects(conversation.send(""), { status: 422 });
  await assert.rejects(conversation.send("x".repeat(8_001)), { status: 422 });
  assert.equal(conversation.messages.length, 0);
  assert.equal((await conversation.send("😀".repeat(8_000))).status, "sent", "characters, not UTF-16 units");
});

test("a listener that throws disturbs nobody else", async () => {
  const { clock, server, open } = await world();
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

test("the other side of two users, and of a contact, is named as the API wants it", async () => {
  const colleague = await world();
  colleague.open({ user_id: "nurse7" });
  await colleague.clock.advance(1_000);
  assert.deepEqual(colleague.server.handshakes[0].query, { location_id: "loc1", user_id: "doc123", peer_user_id: "nurse7" });
  const patient = await world({ chat: { token: token(PATIENT) } });
  patient.open(DOCTOR);
  await patient.clock.advance(1_000);
  assert.deepEqual(patient.server.handshakes[0].query, { location_id: "loc1", user_id: "doc123", contact_id: "pat456" });
  assert.throws(() => patient.chat.conversation({ contact_id: "pat7" }), TypeError);
});
