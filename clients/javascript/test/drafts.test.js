// Drafts: where they are kept, who sees them, and when they end.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../src/index.js";
import { DOCTOR, PATIENT, token } from "./support/fake-server.js";
import { setUp } from "./support/set-up.js";

/** A store of the page, shared by all who use one computer. */
function computer() {
  const entries = new Map();
  return { entries, get: (key) => entries.get(key) ?? null, set: (key, text) => entries.set(key, text), remove: (key) => entries.delete(key), keys: () => entries.keys() };
}

/** A browser's storage, in place of `name` until the test ends. */
function openStorage(t, name, storage) {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { configurable: true, ...storage });
  t.after(() => {
    if (before) Object.defineProperty(globalThis, name, before);
    else delete globalThis[name];
  });
}

function webStorage(capacity = Infinity) {
  const entries = new Map();
  return {
    entries,
    get length() { return entries.size; },
    key: (index) => [...entries.keys()][index] ?? null,
    getItem: (key) => entries.get(key) ?? null,
    setItem: (key, text) => {
      if (text.length > capacity) throw new DOMException("the quota is exceeded", "QuotaExceededError");
      entries.set(key, text);
    },
    removeItem: (key) => entries.delete(key),
  };
}

test("a draft survives the conversation, and `change` and `draft` report it", async () => {
  const { clock, chat, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const drafts = [];
  chat.on("draft", ({ peer, draft }) => drafts.push([peer, draft]));
  let changes = 0;
  conversation.on("change", () => changes++);
  assert.equal(conversation.draft, "");
  conversation.setDraft("Dear pa");
  conversation.setDraft("Dear pa");
  await clock.settle();
  assert.deepEqual([drafts, changes], [[[PATIENT, "Dear pa"]], 1]);
  conversation.close();
  assert.equal(chat.draft(PATIENT), "Dear pa");
  assert.equal(chat.draft({ contact_id: "pat7" }), "");
  assert.equal(open().draft, "Dear pa");
});

test("`send` removes the draft that it sends, and no other one", async () => {
  const { clock, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  conversation.setDraft("Half a sen");
  conversation.send("a quick reply");
  assert.equal(conversation.draft, "Half a sen");
  conversation.setDraft(" Hello \n");
  conversation.send("Hello");
  assert.equal(conversation.draft, "");
  conversation.setDraft("x".repeat(8_001));
  await assert.rejects(conversation.send("x".repeat(8_001)), { code: "invalid_argument" });
  assert.equal(conversation.draft.length, 8_001, "the text was not accepted");
});

test("a stored draft survives a reload, for its owner, location and peer alone", async () => {
  const store = computer();
  const start = async (who, more = {}) => (await setUp({ chat: { drafts: store, token: token(who, "1", { locations: ["loc1", "loc2"] }), location_id: "loc1", ...more } })).chat;
  const first = await start(DOCTOR);
  first.conversation(PATIENT).setDraft("about the results");
  first.close();
  assert.equal((await start(DOCTOR)).draft(PATIENT), "about the results");
  assert.equal((await start(DOCTOR)).draft({ contact_id: "pat7" }), "");
  assert.equal((await start(DOCTOR, { location_id: "loc2" })).draft(PATIENT), "");
  assert.equal((await start(DOCTOR, { url: "http://other.test" })).draft(PATIENT), "");
  assert.equal((await start({ user_id: "doc7" })).draft(PATIENT), "");
  assert.equal((await start({ contact_id: "doc123" })).draft({ user_id: "pat456" }), "", "a contact with the name of a user");
  const second = await start(DOCTOR);
  const conversation = second.conversation(PATIENT);
  conversation.send("about the results");
  assert.equal(store.entries.size, 0, "sent");
});

test("`signOut` removes the drafts of this owner in all locations, and a late view stores none", async () => {
  const store = computer();
  const start = async (who, location_id) => (await setUp({ chat: { drafts: store, token: token(who, "1", { locations: ["loc1", "loc2"] }), location_id } })).chat;
  (await start({ user_id: "doc7" }, "loc1")).conversation(PATIENT).setDraft("of a colleague");
  (await start(DOCTOR, "loc2")).conversation(PATIENT).setDraft("elsewhere");
  const chat = await start(DOCTOR, "loc1");
  const conversation = chat.conversation(PATIENT);
  conversation.setDraft("here");
  assert.equal(store.entries.size, 3);
  chat.signOut();
  assert.equal(conversation.state, "closed");
  conversation.setDraft("on the way out");
  assert.equal(conversation.draft, "");
  assert.deepEqual([...store.entries.values()].map((stored) => JSON.parse(stored).text), ["of a colleague"]);
});

test("a stored draft expires after seven days without a change", async () => {
  const store = computer();
  const day = 86_400_000;
  const { clock, chat, server } = await setUp({ chat: { drafts: store } });
  store.entries.set("of another application", "stays");
  store.entries.set("ehr-chat:draft:broken", "{");
  chat.conversation(PATIENT).setDraft("old");
  chat.conversation({ contact_id: "pat7" }).setDraft("newer");
  chat.close();
  const again = () => connect({ url: "http://chat.test", token: token(DOCTOR), fetch: server.fetch, WebSocket: server.WebSocket, clock, drafts: store });
  clock.set(6 * day);
  const second = await again();
  assert.equal(second.draft(PATIENT), "old");
  second.conversation({ contact_id: "pat7" }).setDraft("newer still");
  second.close();
  clock.set(2 * day);
  const third = await again();
  assert.deepEqual([third.draft(PATIENT), third.draft({ contact_id: "pat7" })], ["", "newer still"]);
  assert.deepEqual([...store.entries.keys()].filter((key) => !key.includes("pat7")), ["of another application"]);
});

for (const [option, name] of [["session", "sessionStorage"], ["local", "localStorage"]]) {
  test(`"${option}" uses ${name}, and a full one disturbs nothing`, async (t) => {
    const storage = webStorage(200);
    openStorage(t, name, { value: storage });
    const { clock, chat, open } = await setUp({ chat: { drafts: option } });
    const warnings = [];
    chat.on("warning", ({ work, code }) => warnings.push(`${work} ${code}`));
    const conversation = open();
    await clock.advance(1_000);
    conversation.setDraft("short");
    assert.equal(storage.entries.size, 1);
    for (const length of [500, 600, 700]) conversation.setDraft("x".repeat(length));
    assert.equal(conversation.draft.length, 700, "in memory all the same");
    assert.deepEqual(warnings, ["drafts storage"], "once");
    conversation.setDraft("short again");
    conversation.setDraft("x".repeat(500));
    assert.deepEqual(warnings, ["drafts storage", "drafts storage"]);
    conversation.setDraft("");
    assert.equal(storage.entries.size, 0);
  });
}

test("a storage that the platform forbids or lacks is replaced by memory", async (t) => {
  const forbidden = { get: () => { throw new DOMException("denied", "SecurityError"); } };
  for (const storage of [forbidden, { value: undefined }]) {
    openStorage(t, "localStorage", storage);
    const { chat } = await setUp({ chat: { drafts: "local" } });
    chat.conversation(PATIENT).setDraft("kept");
    assert.equal(chat.draft(PATIENT), "kept");
    chat.signOut();
  }
});

test("looking at many conversations without a draft keeps the real drafts", async () => {
  for (const drafts of ["memory", { ...computer(), set() { throw new Error("full"); } }]) {
    const { chat, open } = await setUp({ chat: { drafts } });
    open().setDraft("Dear pa");
    for (let number = 0; number < 1_500; number++) assert.equal(chat.draft({ contact_id: `other${number}` }), "");
    assert.equal(chat.draft(PATIENT), "Dear pa");
  }
});

test("a store that is forbidden from the start warns once", async () => {
  const refuse = () => { throw new DOMException("not allowed", "SecurityError"); };
  const { chat, clock } = await setUp({ chat: { drafts: { get: refuse, set: refuse, remove: refuse, keys: refuse } } });
  const warnings = [];
  chat.on("warning", ({ code }) => warnings.push(code));
  chat.conversation(PATIENT).setDraft("Dear pa");
  await clock.settle();
  assert.deepEqual([warnings, chat.draft(PATIENT)], [["storage"], "Dear pa"]);
});
