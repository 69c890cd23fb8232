// Sending: retries, order, rejections, and messages that wait.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PATIENT } from "./support/fake-server.js";
import { setUp, statuses, texts } from "./support/set-up.js";

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
  assert.equal(conversation.state, "offline");
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
  await assert.rejects(conversation.send(""), { code: "invalid_argument" });
  await assert.rejects(conversation.send("x".repeat(8_001)), { code: "invalid_argument" });
  assert.equal(conversation.messages.length, 0);
  assert.equal((await conversation.send("😀".repeat(8_000))).status, "sent", "characters, not UTF-16 units");
});

test("a message that fails after its conversation was left is there when the user comes back", async () => {
  const { clock, server, chat, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.intercept = ({ path }) => (path === "/chat/send" ? "request-lost" : null);
  conversation.send("refuse me");
  await clock.settle();
  conversation.close();
  server.intercept = () => null;
  await clock.advance(20_000);
  assert.deepEqual([conversation.pending, chat.pending, clock.waiting], [0, 1, 0]);
  const reopened = open();
  assert.deepEqual([texts(reopened), statuses(reopened)], [["refuse me"], ["failed"]]);
  reopened.close();
  assert.equal(open(), conversation, "also when the failed message was on the screen");
  assert.equal(conversation.discard(conversation.messages[0]), true);
  conversation.close();
  assert.equal(chat.pending, 0);
  assert.notEqual(open(), conversation);
});

test("only the newest conversations with failed messages stay", async () => {
  const { clock, chat, open } = await setUp();
  for (let number = 0; number <= 50; number++) {
    const conversation = open({ contact_id: `pat${number}` });
    await assert.rejects(conversation.send("refuse me"), { status: 422 });
    conversation.close();
  }
  await clock.settle();
  assert.equal(chat.pending, 50);
  assert.deepEqual(["pat0", "pat1"].map((contact_id) => texts(open({ contact_id }))), [[], ["refuse me"]]);
});
