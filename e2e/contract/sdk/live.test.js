// The SDK in Node.js against the real system and its faults.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BASE, client, intermediary, kill, line, live, pair, redis, token, until } from "./system.js";

const RANK = { failed: -1, sending: 0, sent: 1, delivered: 2, read: 3 };

/** Records each change that shows a message twice, out of order, or with a tick that goes back. */
function watched(conversation) {
  const wrong = [];
  const best = new Map();
  conversation.on("change", () => {
    const { messages } = conversation;
    if (new Set(messages.map(({ key }) => key)).size !== messages.length) wrong.push("doubled");
    const ids = messages.flatMap(({ id }) => id ?? []);
    if (new Set(ids).size !== ids.length) wrong.push("one message as two");
    for (const [index, { key, seq, status }] of messages.entries()) {
      if (index > 0 && (seq ?? Infinity) < (messages[index - 1].seq ?? Infinity)) wrong.push(`seq ${seq} out of order`);
      if (RANK[status] < (best.get(key) ?? -1)) wrong.push(`a tick went back to ${status}`);
      best.set(key, RANK[status]);
    }
  });
  return wrong;
}

const texts = (conversation) => conversation.messages.map(({ content }) => content);
const seqs = (conversation) => conversation.messages.map(({ seq }) => seq);
const count = (length) => Array.from({ length }, (_, index) => index + 1);

test("both sides see sends, receipts and typing", async (t) => {
  const { doctor, patient } = pair();
  const [mine, theirs] = [(await client(t, doctor)).conversation(patient), (await client(t, patient)).conversation(doctor)];
  await Promise.all([live(mine), live(theirs)]);
  const sent = await mine.send("Hello patient!");
  assert.equal(sent.seq, 1);
  await until(mine, "delivered", () => mine.messages[0].status === "delivered");
  theirs.typing(); // the gateway passes it on after the first message only
  await until(mine, "typing", () => mine.peerTyping);
  assert.deepEqual(texts(theirs), ["Hello patient!"]);
  await theirs.markRead();
  await until(mine, "read", () => mine.messages[0].status === "read");
});

test("presence is visible from the first message on", async (t) => {
  const { doctor, patient } = pair();
  const chat = await client(t, doctor);
  const mine = chat.conversation(patient);
  await live(mine);
  assert.equal(await chat.presence(patient), null, "no shared conversation yet");
  await mine.send("Hello patient!");
  await until(mine, "presence visible", () => mine.presence);
  assert.deepEqual(mine.presence, { online: false, last_seen_at: null });
  const changes = [];
  chat.on("presence", ({ online, ...who }) => {
    assert.equal(who.contact_id, patient.contact_id);
    if (changes.at(-1) !== online) changes.push(online);
  });
  const theirs = (await client(t, patient)).inbox();
  await until(mine, "online", () => mine.presence.online);
  assert.deepEqual(await chat.presence(patient), { online: true, last_seen_at: null });
  theirs.close();
  await until(mine, "gone", () => !mine.presence.online);
  assert.ok(Math.abs(Date.parse(mine.presence.last_seen_at) - Date.now()) < 60_000, mine.presence.last_seen_at);
  assert.deepEqual(await chat.presence(patient), mine.presence);
  assert.deepEqual(changes.slice(-2), [true, false]);
  assert.equal(await chat.presence({ contact_id: `${patient.contact_id}-unknown` }), null);
});

test("stored messages are delivered when the conversation opens", async (t) => {
  const { doctor, patient } = pair();
  const mine = (await client(t, doctor)).conversation(patient);
  await live(mine);
  for (const n of count(3)) await mine.send(`text ${n}`);
  assert.deepEqual(mine.messages.map(({ status }) => status), ["sent", "sent", "sent"]);
  await live((await client(t, patient)).conversation(doctor));
  await until(mine, "delivered", () => mine.messages.every(({ status }) => status === "delivered"));
});

test("loadOlder reaches the first message", async (t) => {
  const { doctor, patient } = pair();
  const writer = (await client(t, doctor)).conversation(patient);
  await Promise.all(count(120).map((n) => writer.send(`text ${n}`)));
  const reader = (await client(t, patient)).conversation(doctor);
  await live(reader);
  assert.deepEqual([reader.messages.length, reader.messages[0].seq, reader.hasMore], [50, 71, true]);
  assert.equal(await reader.loadOlder(), true);
  assert.equal(await reader.loadOlder(), false);
  assert.deepEqual(texts(reader), count(120).map((n) => `text ${n}`));
});

test("kill -9 of the gateways loses, doubles and reorders nothing", async (t) => {
  const { doctor, patient } = pair();
  const [mine, theirs] = [(await client(t, doctor)).conversation(patient), (await client(t, patient)).conversation(doctor)];
  const wrong = [watched(mine), watched(theirs)];
  const announced = [];
  theirs.on("message", ({ content }) => announced.push(content));
  await Promise.all([live(mine), live(theirs)]);
  let writing = true;
  const write = async (conversation, name) => {
    const written = [];
    while (writing || written.length < 100) {
      written.push(`${name} ${written.length + 1}`);
      await conversation.send(written.at(-1));
    }
    return written;
  };
  const all = Promise.all([write(mine, "doctor"), write(theirs, "patient")]);
  const cut = [mine, theirs].map((conversation) => until(conversation, "cut off", () => conversation.state === "reconnecting"));
  await kill("GATEWAY_PIDS", 0);
  await kill("GATEWAY_PIDS", 1); // one of them had the sockets
  await Promise.all(cut);
  writing = false;
  const [byDoctor, byPatient] = await all;
  const total = byDoctor.length + byPatient.length;
  for (const conversation of [mine, theirs]) {
    await live(conversation);
    await until(conversation, "all", () => conversation.messages.length === total && conversation.messages.every(({ status }) => status !== "sending"));
    assert.deepEqual(seqs(conversation), count(total));
    assert.deepEqual(texts(conversation).filter((text) => text.startsWith("doctor")), byDoctor);
    assert.deepEqual(texts(conversation).filter((text) => text.startsWith("patient")), byPatient);
  }
  assert.deepEqual(announced, byDoctor, "each announced once, in order");
  await theirs.markRead();
  await until(mine, "read", () => mine.messages.every(({ mine, status }) => !mine || status === "read"));
  assert.deepEqual(wrong, [[], []]);
});

test("kill -9 of an API service keeps each message, once, in order", async (t) => {
  const { doctor, patient } = pair();
  const mine = (await client(t, doctor)).conversation(patient);
  const wrong = watched(mine);
  await live(mine);
  const all = Promise.all(count(200).map((n) => mine.send(`text ${n}`)));
  await kill("API_PIDS", 0);
  await all;
  assert.deepEqual(texts(mine), count(200).map((n) => `text ${n}`));
  assert.deepEqual(seqs(mine), count(200));
  assert.deepEqual(wrong, []);
});

test("messages wait offline in order and go out afterwards", async (t) => {
  const { doctor, patient } = pair();
  const cable = await line(t);
  const chat = await client(t, doctor, { url: cable.url });
  const mine = chat.conversation(patient);
  const wrong = watched(mine);
  await live(mine);
  await mine.send("before");
  cable.cut();
  await until(mine, "cut off", () => mine.state === "offline");
  const waiting = count(20).map((n) => mine.send(`offline ${n}`));
  const theirs = (await client(t, patient)).conversation(doctor);
  await live(theirs);
  await theirs.send("are you there?");
  assert.equal(chat.pending, 20);
  assert.deepEqual(mine.messages.slice(1).map(({ status }) => status), Array(20).fill("sending"));
  cable.mend();
  await Promise.all(waiting);
  await live(mine);
  const expected = ["before", "are you there?", ...count(20).map((n) => `offline ${n}`)];
  for (const conversation of [mine, theirs]) {
    await until(conversation, "all", () => conversation.messages.length === expected.length);
    assert.deepEqual(texts(conversation), expected);
  }
  assert.deepEqual(wrong, []);
});

test("missed messages are loaded after Redis lost everything", async (t) => {
  const { doctor, patient } = pair();
  const cable = await line(t);
  const mine = (await client(t, doctor)).conversation(patient);
  const theirs = (await client(t, patient, { url: cable.url })).conversation(doctor);
  const wrong = watched(theirs);
  const announced = [];
  theirs.on("message", ({ content }) => announced.push(content));
  await Promise.all([live(mine), live(theirs)]);
  await mine.send("before");
  await until(theirs, "first", () => theirs.messages.length === 1);
  cable.cut();
  await until(theirs, "cut off", () => theirs.state === "offline");
  await redis("FLUSHALL");
  const missed = count(30).map((n) => `missed ${n}`);
  for (const text of missed) await mine.send(text);
  cable.mend();
  await live(theirs);
  await until(theirs, "all", () => theirs.messages.length === 31);
  assert.deepEqual(texts(theirs), ["before", ...missed]);
  assert.deepEqual(announced, ["before", ...missed]);
  assert.deepEqual(wrong, []);
});

test("messages arrive while Redis restarts, then live again", async (t) => {
  const { doctor, patient } = pair();
  const [mine, theirs] = [(await client(t, doctor)).conversation(patient), (await client(t, patient)).conversation(doctor)];
  await Promise.all([live(mine), live(theirs)]);
  const degraded = until(theirs, "degraded", () => theirs.state === "degraded");
  await kill("REDIS_PID");
  await degraded;
  await mine.send("without relay");
  await until(theirs, "by polling or by the relay", () => theirs.messages.length === 1);
  await Promise.all([live(mine), live(theirs)]);
  await mine.send("with relay");
  await until(theirs, "live", () => theirs.messages.length === 2);
  assert.deepEqual(seqs(theirs), [1, 2]);
});

test("an expiring token is replaced on the open socket", async (t) => {
  const { doctor, patient } = pair();
  const asked = [];
  let renewed;
  const again = new Promise((resolve) => { renewed = resolve; });
  const chat = await client(t, doctor, {
    token: (reason) => {
      asked.push(reason);
      if (asked.length > 1) renewed();
      return token(doctor, { ttl: asked.length === 1 ? 8 : 3_600, jti: `${doctor.user_id}-${asked.length}` });
    },
  });
  const mine = chat.conversation(patient);
  await live(mine);
  const states = [];
  mine.on("state", (state) => states.push(state));
  await again;
  await mine.send("with the new one");
  assert.deepEqual(asked, ["first", "expiring"]);
  assert.deepEqual(states, [], "the socket stayed");
});

test("short tokens are renewed at a measured pace", async (t) => {
  const { doctor, patient } = pair();
  const ttl = 8;
  const asked = [];
  let renewed;
  const often = new Promise((resolve) => { renewed = resolve; });
  const chat = await client(t, doctor, {
    token: () => {
      asked.push(performance.now());
      if (asked.length === 4) renewed();
      return token(doctor, { ttl, jti: `${doctor.user_id}-${asked.length}` });
    },
  });
  const mine = chat.conversation(patient);
  await live(mine);
  const states = [];
  mine.on("state", (state) => states.push(state));
  await often;
  assert.equal((await mine.send("still here")).seq, 1);
  assert.deepEqual(states, [], "the socket stayed");
  for (const at of [2, 3]) assert.ok(asked[at] - asked[at - 1] > ttl * 1_000 / 5, `${asked}`);
});

for (const [name, page] of [
  ["an error page", { status: 404, type: "text/html", text: "<h1>Not found</h1>" }],
  ["a refusal in JSON", { status: 403, type: "application/json", text: '{"error":"forbidden"}' }],
  ["a login page", { status: 200, type: "text/html", text: "<form>Room number?</form>" }],
  ["a foreign problem body", { status: 401, type: "application/problem+json", text: '{"type":"about:blank","title":"Unauthorized","status":401}' }],
]) {
  test(`${name} of an intermediary refuses and fails nothing`, async (t) => {
    const { doctor, patient } = pair();
    await (await client(t, patient)).conversation(doctor).send("was there");
    const between = await intermediary(t);
    const chat = await client(t, doctor, { url: between.url });
    between.page = page;
    const warnings = new Set();
    let all;
    const warned = new Promise((resolve) => { all = resolve; });
    chat.on("warning", ({ work, isForeign }) => {
      if (between.page) assert.ok(isForeign);
      warnings.add(work);
      if (["connection", "history", "inbox", "send"].every((one) => warnings.has(one))) all();
    });
    const states = [];
    const inbox = chat.inbox();
    const mine = chat.conversation(patient);
    mine.on("state", (state) => states.push(state));
    const sent = mine.send("meanwhile");
    await warned;
    between.page = null;
    assert.equal((await sent).seq, 2);
    await Promise.all([live(mine), live(inbox)]);
    assert.deepEqual(texts(mine), ["was there", "meanwhile"]);
    assert.ok(!states.includes("refused"), states.join());
    await until(mine, "nothing left", () => chat.retrying.length === 0);
  });
}

test("messages flow without sockets, then without HTTP", async (t) => {
  const { doctor, patient } = pair();
  const between = await intermediary(t);
  const chat = await client(t, doctor, { url: between.url });
  const [mine, theirs] = [chat.conversation(patient), (await client(t, patient)).conversation(doctor)];
  const wrong = watched(mine);
  await Promise.all([live(mine), live(theirs)]);
  between.sockets = false;
  between.cutSockets();
  await until(mine, "cut off", () => mine.state === "reconnecting");
  await theirs.send("one");
  await until(mine, "polled", () => mine.messages.length === 1);
  await mine.send("two");
  between.sockets = true;
  await live(mine);
  between.http = false;
  const waits = mine.send("three");
  await theirs.send("four");
  await until(mine, "live", () => texts(mine).includes("four"));
  await until(mine, "said", () => mine.retrying.some(({ work }) => work === "send"));
  assert.deepEqual(texts(mine), ["one", "two", "four", "three"]);
  between.http = true;
  assert.equal((await waits).seq, 4);
  for (const conversation of [mine, theirs]) await until(conversation, "all", () => seqs(conversation).join() === "1,2,3,4");
  assert.deepEqual(wrong, []);
});

test("a line of 20 KB/s loads a page of long messages", async (t) => {
  const { doctor, patient } = pair();
  const theirs = (await client(t, patient)).conversation(doctor);
  await Promise.all(count(45).map((n) => theirs.send(`${n} ${"x".repeat(7_990)}`)));
  const between = await intermediary(t);
  between.speed = 20_000;
  const mine = (await client(t, doctor, { url: between.url })).conversation(patient);
  const states = [];
  mine.on("state", (state) => states.push(state));
  await live(mine);
  while (await mine.loadOlder());
  assert.deepEqual(seqs(mine), count(45));
  assert.deepEqual(states, ["live"]);
});

test("a revoked token is replaced and nothing is lost", async (t) => {
  const { doctor, patient } = pair();
  const asked = [];
  const chat = await client(t, doctor, { token: (reason) => { asked.push(reason); return token(doctor, { jti: `${doctor.user_id}-${asked.length}` }); } });
  const mine = chat.conversation(patient);
  await live(mine);
  const cut = until(mine, "closed", () => mine.state === "reconnecting");
  const answer = await fetch(`${BASE}/admin/revocations`, {
    method: "POST", body: JSON.stringify({ jti: `${doctor.user_id}-1` }),
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token({ user_id: "ehr" }, { role: "service", admin: true })}` },
  });
  assert.equal(answer.status, 204);
  await cut;
  const sent = mine.send("still here");
  await live(mine);
  assert.equal((await sent).seq, 1);
  assert.deepEqual(asked, ["first", "refused"]);
});

test("two windows of one person show the same messages", async (t) => {
  const { doctor, patient } = pair();
  const windows = [(await client(t, doctor)).conversation(patient), (await client(t, doctor)).conversation(patient)];
  const theirs = (await client(t, patient)).conversation(doctor);
  await Promise.all([...windows, theirs].map(live));
  await Promise.all(windows.flatMap((window, which) => count(20).map((n) => window.send(`window ${which} text ${n}`))));
  await theirs.send("an answer");
  for (const window of windows) {
    await until(window, "all", () => window.messages.length === 41);
    assert.deepEqual(seqs(window), count(41));
    assert.deepEqual(window.messages.map(({ mine }) => mine), [...Array(40).fill(true), false]);
  }
  assert.deepEqual(texts(windows[0]), texts(windows[1]));
  await windows[0].markRead();
  await until(windows[1], "read in the other window", () => windows[1].messages[40].status === "read");
  await theirs.markRead();
  for (const window of windows) await until(window, "read", () => window.messages.every(({ status }) => status === "read"));
});

test("the inbox counts unread messages until they are read", async (t) => {
  const { doctor, patient } = pair();
  const inbox = (await client(t, doctor)).inbox();
  await until(inbox, "loaded", () => inbox.loaded);
  assert.deepEqual(inbox.rows, []);
  const theirs = (await client(t, patient)).conversation(doctor);
  for (const n of count(3)) await theirs.send(`text ${n}`);
  await until(inbox, "three", () => inbox.unread === 3);
  assert.deepEqual(inbox.rows[0].peer, patient);
  assert.equal(inbox.rows[0].last_message.content, "text 3");
  const chat = await client(t, doctor);
  const mine = chat.conversation(patient);
  await live(mine);
  await mine.markRead();
  await until(inbox, "none", () => inbox.unread === 0);
});

test("a participant without rights is refused with a reason", async (t) => {
  const { doctor, patient } = pair();
  const chat = await client(t, doctor, { location_id: "elsewhere" });
  const mine = chat.conversation(patient);
  await until(mine, "refused", () => mine.state === "refused");
  assert.equal(mine.error.status, 403);
  await assert.rejects(mine.send("not mine to say"), { status: 403 });
  assert.equal(mine.messages[0].status, "failed");
});
