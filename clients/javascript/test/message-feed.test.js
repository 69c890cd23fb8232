// `chat.on("message")`: each message that arrives for the participant, in open conversations and in others, once.

import assert from "node:assert/strict";
import { test } from "node:test";

import { seeded } from "./support/fake-clock.js";
import { DOCTOR, PATIENT, problem } from "./support/fake-server.js";
import { setUp } from "./support/set-up.js";

const OTHER = { contact_id: "pat7" };

/** Adds conversations of the doctor with other contacts to the server, which by itself has the one with the patient. */
function addConversations(server) {
  const all = new Map();
  const row = (contact_id) => {
    const { messages, unread } = all.get(contact_id);
    const last = messages.at(-1);
    return { conversation_id: `c-${contact_id}`, location_id: "loc1", ...DOCTOR, contact_id, last_message: { ...last }, unread_count: unread, last_activity_at: last.sent_at };
  };
  const rows = () => [...(server.messages.length > 0 ? [server.row(DOCTOR)] : []), ...[...all.keys()].map(row)]
    .sort((a, b) => (a.last_activity_at < b.last_activity_at ? 1 : -1));
  const before = server.intercept;
  const serve = ({ path, query }) => {
    if (path === "/chat/conversations") {
      const from = Number(query.cursor ?? 0);
      const to = from + Number(query.limit);
      return { status: 200, body: { conversations: rows().slice(from, to), next_cursor: to < rows().length ? String(to) : null } };
    }
    if (path !== "/chat/history" || !all.has(query.contact_id)) return before({ path, query });
    const { messages } = all.get(query.contact_id);
    const found = messages.filter(({ seq }) => seq > Number(query.after ?? 0));
    const page = query.after === undefined ? found.slice(-Number(query.limit)) : found.slice(0, Number(query.limit));
    return { status: 200, body: { conversation_id: `c-${query.contact_id}`, messages: structuredClone(page), has_more: page.length < found.length } };
  };
  server.intercept = serve;
  const publish = (contact_id) => {
    for (const socket of server.live) if (!socket.query.contact_id) socket.give({ type: "conversation", conversation: row(contact_id) });
  };
  let written = 0;
  return {
    serve, publish,
    write(contact_id, content, { silent = false, sender = { sender_contact_id: contact_id }, ...more } = {}) {
      if (!all.has(contact_id)) all.set(contact_id, { messages: [], unread: 0 });
      const conversation = all.get(contact_id);
      conversation.messages.push({
        id: `${contact_id}-${conversation.messages.length + 1}`, conversation_id: `c-${contact_id}`, seq: conversation.messages.length + 1, location_id: "loc1",
        ...sender, content, client_message_id: null, sent_at: new Date(server.clock.now() + ++written).toISOString(), delivered_at: null, read_at: null, ...more,
      });
      conversation.unread++;
      if (!silent) publish(contact_id);
    },
    read(contact_id) {
      all.get(contact_id).unread = 0;
      publish(contact_id);
    },
  };
}

async function listening(options = {}) {
  let others;
  const all = await setUp({ ...options, prepare: (server) => { others = addConversations(server); options.prepare?.(server, others); } });
  const received = [];
  const off = all.chat.on("message", ({ peer, conversation_id, message }) => received.push({ peer, conversation_id, ...message }));
  await all.clock.advance(1_000);
  return { ...all, others, received, off, contents: () => received.map(({ content }) => content) };
}

const histories = (server) => server.requests.filter(({ path }) => path === "/chat/history").length;

test("a message of a conversation that is not open is announced from its row, without a request", async () => {
  const { server, others, received } = await listening({ prepare: (server, others) => { server.write(PATIENT, "old"); others.write("pat7", "old"); } });
  assert.deepEqual(received, []);
  others.write("pat7", "new");
  server.write(PATIENT, "new too");
  assert.deepEqual(received.map(({ peer, conversation_id, seq, content, mine, status, key }) => [peer, conversation_id, seq, content, mine, status, key]), [
    [OTHER, "c-pat7", 2, "new", false, "sent", "pat7-2"], [PATIENT, "c1", 2, "new too", false, "sent", "m2"],
  ]);
  assert.equal(histories(server), 0);
});

test("messages between two rows are loaded, and each is announced once, in order", async () => {
  const { clock, others, contents } = await listening({ prepare: (_, others) => others.write("pat7", "old") });
  for (let n = 1; n <= 450; n++) others.write("pat7", `text ${n}`, { silent: n % 150 !== 0 });
  others.read("pat7");
  await clock.advance(3_000);
  assert.deepEqual(contents(), Array.from({ length: 450 }, (_, index) => `text ${index + 1}`));
  others.read("pat7");
  await clock.advance(3_000);
  assert.equal(contents().length, 450);
});

test("at most the last 1,000 missed messages of a conversation are announced", async () => {
  const { clock, others, contents } = await listening({ prepare: (_, others) => others.write("pat7", "old") });
  for (let n = 2; n <= 1_300; n++) others.write("pat7", `text ${n}`, { silent: n < 1_300 });
  await clock.advance(3_000);
  assert.deepEqual([contents().length, contents()[0], contents().at(-1)], [1_000, "text 301", "text 1300"]);
});

test("a first message, and a conversation behind the loaded rows, are announced; old messages are not", async () => {
  const { clock, others, received, contents } = await listening({
    prepare: (_, others) => { for (let n = 0; n < 60; n++) { others.write(`old${n}`, "one"); others.write(`old${n}`, "two"); } },
  });
  others.write("pat8", "hello");
  others.read("old3"); // behind the 50 loaded rows: only its counter changed
  await clock.advance(3_000);
  assert.deepEqual(contents(), ["hello"]);
  others.write("old4", "three", { silent: true });
  others.write("old4", "four");
  await clock.advance(3_000);
  assert.deepEqual(received.slice(1).map(({ peer, seq, content }) => [peer.contact_id, seq, content]), [["old4", 3, "three"], ["old4", 4, "four"]]);
});

test("a conversation beyond the 1,000 rows of the inbox does not look new", async () => {
  let others;
  const { clock, chat } = await setUp({ prepare: (server) => { others = addConversations(server); for (let n = 0; n < 1_010; n++) others.write(`old${n}`, "old"); } });
  const inbox = chat.inbox();
  await clock.advance(1_000);
  while (await inbox.loadMore());
  assert.equal(inbox.rows.length, 1_000);
  const contents = [];
  chat.on("message", ({ message }) => contents.push(message.content));
  others.read("old3");
  await clock.advance(3_000);
  assert.deepEqual(contents, []);
  others.write("old3", "new");
  await clock.advance(3_000);
  assert.deepEqual(contents, ["new"]);
});

test("messages that were missed without a connection are announced, also while sockets are blocked", async () => {
  const { clock, server, others, contents } = await listening({ prepare: (_, others) => others.write("pat7", "old") });
  server.handshake = () => false;
  server.cutAll();
  others.write("pat7", "missed 1");
  others.write("pat8", "missed 2");
  await clock.advance(20_000);
  assert.deepEqual(contents().sort(), ["missed 1", "missed 2"]);
  others.write("pat7", "missed 3");
  server.handshake = () => true;
  await clock.advance(60_000);
  assert.deepEqual(contents().length, 3);
});

test("an open conversation and its row announce each message once, and no message that was written here", async () => {
  const { clock, server, open, contents, received } = await listening({ prepare: (server) => server.write(PATIENT, "old") });
  const conversation = open();
  await clock.advance(1_000);
  const there = [];
  conversation.on("message", ({ content }) => there.push(content));
  server.write(PATIENT, "one");
  const sent = conversation.send("mine");
  await clock.advance(100);
  await sent;
  server.write(DOCTOR, "from my phone");
  server.write(PATIENT, "two");
  await clock.advance(5_000);
  assert.deepEqual(contents(), ["one", "from my phone", "two"]);
  assert.deepEqual(there, contents());
  assert.deepEqual(received.map(({ mine }) => mine), [false, true, false]);
  conversation.close();
  server.write(PATIENT, "three");
  await clock.advance(5_000);
  assert.deepEqual(contents().slice(3), ["three"]);
});

test("a message that was written here is not announced when its row is faster than its response", async () => {
  const { clock, server, others, open, contents } = await listening();
  const conversation = open();
  await clock.advance(1_000);
  server.intercept = (request) => (request.path === "/chat/send" ? "response-lost" : others.serve(request));
  const resume = server.pauseDelivery();
  conversation.send("mine");
  await clock.settle();
  resume();
  for (const socket of server.live) if (!socket.query.contact_id) socket.give({ type: "conversation", conversation: server.row(DOCTOR) });
  await clock.settle();
  conversation.close();
  server.intercept = others.serve;
  await clock.advance(30_000);
  server.write(PATIENT, "an answer");
  await clock.advance(5_000);
  assert.deepEqual(contents(), ["an answer"]);
});

test("a message is announced that an opened conversation took for old, because its row came late", async () => {
  const { clock, server, others, open, contents } = await listening({
    prepare: (server, others) => { server.write(PATIENT, "old"); for (let n = 0; n < 60; n++) others.write(`old${n}`, "old"); },
  });
  server.handshake = ({ query }) => query.contact_id !== undefined;
  server.intercept = (request) => (request.path === "/chat/conversations" ? "request-lost" : others.serve(request));
  server.cutAll();
  await clock.advance(60_000);
  server.write(PATIENT, "before it opened");
  open();
  await clock.advance(2_000);
  server.write(PATIENT, "after it opened");
  await clock.advance(2_000);
  assert.deepEqual(contents(), ["after it opened"]);
  server.handshake = () => true;
  server.intercept = others.serve;
  await clock.advance(60_000);
  assert.deepEqual(contents(), ["after it opened", "before it opened"]);
});

test("a load that fails is retried, and a refused one holds up no other conversation", async () => {
  const { clock, server, others, chat, contents } = await listening({ prepare: (_, others) => { others.write("pat7", "old"); others.write("pat8", "old"); } });
  server.intercept = (request) => (request.path === "/chat/history" ? problem(503, "full") : others.serve(request));
  others.write("pat7", "one", { silent: true });
  others.write("pat7", "two");
  await clock.advance(2_000);
  assert.deepEqual([contents(), chat.retrying.map(({ work }) => work)], [[], ["history"]]);
  server.intercept = others.serve;
  await clock.advance(20_000);
  assert.deepEqual([contents(), chat.retrying], [["one", "two"], []]);
  server.intercept = (request) => (request.query.contact_id === "pat7" ? problem(403, "no longer yours") : others.serve(request));
  for (const contact_id of ["pat7", "pat8"]) { others.write(contact_id, `a ${contact_id}`, { silent: true }); others.write(contact_id, `b ${contact_id}`); }
  await clock.advance(20_000);
  assert.deepEqual([contents().slice(2), chat.retrying], [["a pat8", "b pat8"], []]);
});

test("the last listener closes the inbox, unless the page uses it", async () => {
  const { clock, server, chat, others, off, contents } = await listening({ prepare: (_, others) => others.write("pat7", "old") });
  const second = [];
  const offSecond = chat.on("message", ({ message }) => second.push(message.content));
  off();
  off();
  others.write("pat7", "one");
  assert.deepEqual([contents(), second, server.live.length], [[], ["one"], 1]);
  offSecond();
  assert.deepEqual([server.live.length, clock.waiting], [0, 0]);
  const inbox = chat.inbox();
  await clock.advance(1_000);
  const offThird = chat.on("message", ({ message }) => second.push(message.content));
  others.write("pat7", "two");
  assert.deepEqual(second, ["one", "two"]);
  offThird();
  others.write("pat7", "three");
  assert.deepEqual([inbox.state, second.length], ["live", 2]);
  chat.close();
  assert.throws(() => chat.on("message", () => {}), { code: "closed" });
});

for (let seed = 1; seed <= 40; seed++) {
  test(`random faults announce each message once, in order (seed ${seed})`, async () => {
    const random = seeded(seed);
    const { clock, server, others, open, received } = await listening();
    let conversation = null;
    let number = 0;
    for (let step = 0; step < 60; step++) {
      const dice = random();
      if (dice < 0.35) server.write(PATIENT, `p ${++number}`);
      else if (dice < 0.6) others.write("pat7", `o ${++number}`, { silent: random() < 0.5 });
      else if (dice < 0.7) { conversation?.close(); conversation = conversation ? null : open(); }
      else if (dice < 0.78) server.cutAll();
      else if (dice < 0.85) server.intercept = random() < 0.6 ? () => "request-lost" : others.serve;
      else if (dice < 0.9) server.handshake = () => random() < 0.7;
      else conversation?.send(`mine ${++number}`).catch(() => {});
      await clock.advance(random() < 0.5 ? 0 : random() * 3_000);
    }
    server.intercept = others.serve;
    server.handshake = () => true;
    others.write("pat7", "last");
    await clock.advance(180_000);
    const theirs = server.messages.filter(({ sender_contact_id }) => sender_contact_id).map(({ content }) => content);
    const announced = (peer) => received.filter((one) => one.peer.contact_id === peer.contact_id);
    assert.deepEqual(announced(PATIENT).map(({ content }) => content).sort(), [...theirs].sort());
    const seqs = announced(OTHER).map(({ seq }) => seq);
    assert.deepEqual(seqs, seqs.map((_, index) => index + 1), "all, in order");
    assert.equal(announced(OTHER).at(-1).content, "last");
  });
}
