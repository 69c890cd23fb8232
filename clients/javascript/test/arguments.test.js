// What a page gets for arguments that the SDK cannot use: always a `ChatError`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatError, connect } from "../src/index.js";
import { DOCTOR, PATIENT, token } from "./support/fake-server.js";
import { setUp } from "./support/set-up.js";

const BAD = { name: "ChatError", code: "invalid_argument", status: 0, retryable: false };
const NO_PARTICIPANTS = [undefined, null, {}, "pat456", 7, { user_id: "" }, { user_id: 7 }, { user_id: "a", contact_id: "b" }, { contact_id: null }];

test("`connect` rejects bad options", async () => {
  const good = { url: "http://chat.test", token: token(DOCTOR), WebSocket: class {} };
  for (const bad of [
    undefined, null, {}, { ...good, url: "chat.test" }, { ...good, url: "ws://chat.test" }, { ...good, url: "http://" }, { ...good, url: 7 },
    { ...good, maxMessages: 0 }, { ...good, maxMessages: "many" }, { ...good, drafts: "disk" }, { ...good, drafts: { get() {} } }, { ...good, drafts: null },
    { ...good, me: { user_id: "" } }, { ...good, token: token(DOCTOR, "1", { locations: ["a", "b"] }) },
    { ...good, token: token(DOCTOR, "1", { role: "service" }) },
  ]) await assert.rejects(connect(bad), BAD, JSON.stringify(bad));
  for (const bad of [undefined, 7, "", "nonsense"]) await assert.rejects(connect({ ...good, token: bad }), { name: "ChatError", code: "token" });
});

test("methods with a promise reject, and others throw", async () => {
  const { clock, chat, open } = await setUp();
  const conversation = open();
  const inbox = chat.inbox();
  await clock.advance(1_000);
  for (const bad of NO_PARTICIPANTS) {
    assert.throws(() => chat.conversation(bad), BAD, JSON.stringify(bad));
    assert.throws(() => chat.cachedPresence(bad), BAD);
    assert.throws(() => chat.draft(bad), BAD);
    await assert.rejects(chat.presence(bad), BAD);
  }
  assert.throws(() => chat.conversation(DOCTOR), BAD, "with itself");
  for (const bad of [undefined, null, 7, {}]) {
    await assert.rejects(conversation.send(bad), BAD);
    await assert.rejects(conversation.retry(bad), BAD);
    assert.throws(() => conversation.discard(bad), BAD);
    assert.throws(() => conversation.setDraft(bad), BAD);
    assert.throws(() => chat.setToken(bad), { name: "ChatError", code: "token" });
  }
  for (const bad of [null, 7, {}, "all", [null], [{}]]) await assert.rejects(conversation.markRead(bad), BAD);
  for (const one of [chat, inbox, conversation]) {
    assert.throws(() => one.on("nonsense", () => {}), BAD);
    assert.throws(() => one.on("state"), BAD);
  }
  assert.deepEqual(conversation.messages, []);
});

test("two contacts have no conversation", async () => {
  const { chat } = await setUp({ chat: { token: token(PATIENT) } });
  assert.throws(() => chat.conversation({ contact_id: "pat7" }), BAD);
});

test("a rejected argument ends no process that ignores it", async () => {
  const { open } = await setUp();
  const conversation = open();
  const unhandled = [];
  const listener = (error) => unhandled.push(error);
  process.on("unhandledRejection", listener);
  conversation.send("");
  conversation.retry(null);
  conversation.markRead(7);
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", listener);
  assert.deepEqual(unhandled, []);
  assert.ok((await conversation.send("").catch((error) => error)) instanceof ChatError);
});
