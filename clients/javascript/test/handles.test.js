// The objects that the SDK gives to a page: sharing, closing, content, promises, and the package itself.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { PATIENT, problem } from "./support/fake-server.js";
import { statuses, texts, setUp } from "./support/set-up.js";

const home = new URL("..", import.meta.url).pathname;
const node = (...args) => promisify(execFile)(process.execPath, args);

test("the last use of a shared conversation closes the connection", async () => {
  const { clock, server, chat, open } = await setUp();
  const [one, two] = [open(), open()];
  assert.equal(one, two);
  await clock.advance(1_000);
  one.close();
  server.write(PATIENT, "still received");
  await clock.advance(100);
  assert.deepEqual([two.state, texts(two), server.handshakes.length], ["live", ["still received"], 1]);
  await two.send("still sent");
  two.close();
  assert.deepEqual([two.state, server.live.length], ["closed", 0]);
  two.close();
  two.close();
  const three = open();
  assert.notEqual(three, two);
  await clock.advance(1_000);
  assert.equal(three.state, "live");
  three.close();
  assert.equal(three.state, "closed", "uses that were closed too often do not count against it");
  assert.equal(clock.waiting, 0);
  chat.close();
});

test("both uses count when a closing conversation is reopened", async () => {
  const { clock, server, open } = await setUp();
  const one = open();
  await clock.advance(1_000);
  server.intercept = () => "request-lost";
  one.send("waits");
  await clock.settle();
  one.close();
  const [two, three] = [open(), open()];
  assert.deepEqual([two, three], [one, one]);
  two.close();
  server.intercept = () => null;
  await clock.advance(20_000);
  assert.deepEqual([three.state, statuses(three)], ["live", ["sent"]]);
  three.close();
  assert.equal(one.state, "closed");
});

test("closing the chat closes conversations in use", async () => {
  const { clock, chat, open } = await setUp();
  const [one, two] = [open(), open()];
  const inbox = chat.inbox();
  chat.inbox();
  await clock.advance(1_000);
  chat.close();
  assert.deepEqual([one.state, two.state, inbox.state, clock.waiting], ["closed", "closed", "closed", 0]);
});

test("a shared inbox closes with its last use and reopens", async () => {
  const { clock, server, chat } = await setUp({ prepare: (server) => server.write(PATIENT, "one") });
  const inbox = chat.inbox();
  assert.equal(chat.inbox(), inbox);
  await clock.advance(1_000);
  inbox.close();
  assert.equal(inbox.state, "live");
  inbox.close();
  assert.deepEqual([inbox.state, server.live.length, clock.waiting], ["closed", 0, 0]);
  const again = chat.inbox();
  await clock.advance(1_000);
  assert.deepEqual([again.state, again.rows.length], ["live", 1]);
});

test("half an emoji is sent and shown as U+FFFD", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const [high, low] = ["😀".slice(0, 1), "😀".slice(1)];
  for (const [given, sent] of [
    [`cut ${high}`, "cut \ufffd"], [`${low} cut`, "\ufffd cut"], [`${low}${high}`, "\ufffd\ufffd"], [`${high}${high}${low}`, "\ufffd😀"], ["👩‍⚕️ 😀", "👩‍⚕️ 😀"],
    [high.repeat(8_000), "\ufffd".repeat(8_000)],
  ]) {
    const message = conversation.send(given);
    assert.equal(texts(conversation).at(-1), sent);
    assert.equal((await message).content, sent);
    assert.equal(server.messages.at(-1).content, sent);
    assert.ok(conversation.messages.at(-1).status !== "failed");
  }
});

test("invisible content and U+0000 are rejected before they show", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  for (const content of ["", " ", "\n\t ", "\u200b", "\u2060\ufeff", "\u3164", "\u00a0", "a\0b", "x".repeat(8_001)]) {
    await assert.rejects(conversation.send(content), { name: "ChatError", code: "invalid_argument" }, JSON.stringify(content));
  }
  assert.deepEqual([conversation.messages, server.messages], [[], []]);
  for (const content of [".", "\u200bx", "❤️", "ﷺ", " x "]) assert.equal((await conversation.send(content)).content, content);
});

test("ignored promises end no Node.js process", async () => {
  const code = `
    import { PATIENT } from "${home}test/support/fake-server.js";
    import { setUp } from "${home}test/support/set-up.js";
    const { clock, server, chat, open } = await setUp({ prepare: (server) => { for (let i = 0; i < 200; i++) server.write(PATIENT, "text"); } });
    const row = { conversation_id: "c9", location_id: "loc1", user_id: "doc123", contact_id: "pat9", unread_count: 0, last_message: { id: "m9" }, last_activity_at: "2026" };
    server.intercept = ({ path }) => (path === "/chat/conversations" ? { status: 200, body: { conversations: [row], next_cursor: "more" } } : null);
    const conversation = open();
    const inbox = chat.inbox();
    await clock.advance(1000);
    server.intercept = () => "request-lost";
    conversation.loadOlder();
    inbox.loadMore();
    chat.presence(PATIENT);
    conversation.markRead();
    conversation.send("");
    conversation.send("text");
    conversation.retry(conversation.messages[0]);
    await clock.advance(1000);
    conversation.loadOlder();
    await clock.advance(60000);
    if (server.requests.filter(({ query }) => query.before !== undefined).length !== 2) throw new Error("no history request");
    if (!server.requests.some(({ query }) => query.cursor === "more")) throw new Error("no inbox request");
    chat.close();
    await clock.settle();
    console.log("alive");
  `;
  const { stdout } = await node("--unhandled-rejections=strict", "--input-type=module", "--eval", code);
  assert.equal(stdout.trim(), "alive");
});

test("loadOlder rejects when its page cannot be loaded", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => { for (let i = 0; i < 200; i++) server.write(PATIENT, "text"); } });
  const conversation = open();
  await clock.advance(1_000);
  server.intercept = () => problem(403, "no");
  await assert.rejects(conversation.loadOlder(), { status: 403 });
  server.intercept = () => null;
  assert.equal(await conversation.loadOlder(), true);
});

test("package.json can be imported from the package", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sdk-"));
  try {
    await mkdir(join(folder, "node_modules"));
    await cp(home, join(folder, "node_modules", "ehr-chat-client"), { recursive: true });
    const code = 'import { createRequire } from "node:module"; const require = createRequire(process.cwd() + "/x.js"); console.log(require("ehr-chat-client/package.json").name); console.log(typeof (await import("ehr-chat-client")).connect)';
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", code], { cwd: folder });
    assert.deepEqual(stdout.trim().split("\n"), ["ehr-chat-client", "function"]);
    const { files } = JSON.parse(await readFile(join(home, "package.json"), "utf8"));
    assert.ok(files.includes("src") && files.includes("types"));
  } finally {
    await rm(folder, { recursive: true });
  }
});
