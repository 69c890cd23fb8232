// A message that arrives long after those behind it. What is loaded is loaded from the largest `seq` without a hole before it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PATIENT } from "./server.js";
import { world } from "./world.js";

/** A conversation in which 29 has not come when 54 has, as after a fault in which one API service fell behind. */
async function withHole(options = {}) {
  const all = await world(options);
  const { clock, server, open } = all;
  const conversation = open();
  const announced = [];
  conversation.on("message", ({ seq }) => announced.push(seq));
  await clock.advance(1_000);
  for (let i = 1; i <= 28; i++) server.write(PATIENT, `text ${i}`);
  const hear = server.deafen();
  server.write(PATIENT, "text 29");
  hear();
  const late = server.log.pop();
  for (let i = 30; i <= 54; i++) server.write(PATIENT, `text ${i}`);
  const complete = () => assert.deepEqual(conversation.messages.map(({ seq }) => seq), server.messages.map(({ seq }) => seq));
  return { ...all, conversation, announced, late, complete };
}

const historyRequests = (server, from = 0) => server.requests.slice(from).filter(({ path }) => path === "/chat/history").map(({ query }) => query);

test("29 comes by itself after 54: it is put in its place, and nothing is loaded", async () => {
  const { clock, server, conversation, late, complete } = await withHole();
  assert.equal(conversation.messages.length, 53);
  const { length } = server.requests;
  await clock.advance(1_000);
  server.ephemeral(late);
  complete();
  await clock.advance(60_000);
  assert.deepEqual(historyRequests(server, length), []);
});

test("29 does not come: it is loaded from behind 28, however much is there behind it", async () => {
  const { clock, server, conversation, announced, complete } = await withHole();
  await clock.advance(2_000);
  complete();
  assert.ok(Number(historyRequests(server).at(-1).after) <= 28);
  assert.equal(conversation.state, "live");
  assert.equal(new Set(announced).size, 54);
});

for (const [name, happens] of [
  ["a reconnect that resumes", ({ server }) => server.cutAll(1006)],
  ["a reconnect that cannot resume", ({ server }) => { server.log.length = 0; server.cutAll(1006); }],
  ["`resync`", ({ server }) => server.ephemeral({ type: "resync" })],
  ["`degraded`, `resync` and `recovered`", ({ server }) => { for (const type of ["degraded", "resync", "recovered"]) server.ephemeral({ type }); }],
]) {
  for (const outage of [0, 20_000]) {
    test(`29 is still missing when ${name} happens, ${outage / 1000} s before the history can be read: it is loaded, with all that came since`, async () => {
      const all = await withHole();
      const { clock, server, conversation, complete } = all;
      server.answer = ({ path }) => (path === "/chat/history" ? "lost" : null);
      happens(all);
      await clock.advance(outage);
      const { length } = server.requests;
      const hear = server.deafen();
      for (let i = 55; i <= 60; i++) server.write(PATIENT, `text ${i}`);
      hear();
      server.write(PATIENT, "text 61");
      server.answer = () => null;
      await clock.advance(30_000);
      complete();
      assert.equal(conversation.state, "live");
      const asked = historyRequests(server, length).filter(({ limit }) => limit !== "1");
      assert.ok(asked.length > 0 && Number(asked[0].after) <= 28, JSON.stringify(asked));
    });
  }
}

test("two holes, and small pages: each page is asked for from behind the first hole that is left", async () => {
  const { clock, server, conversation, complete } = await withHole();
  const hear = server.deafen();
  for (let i = 55; i <= 80; i++) server.write(PATIENT, `text ${i}`);
  hear();
  server.write(PATIENT, "text 81");
  server.answer = async ({ path, query }) => { // as the server when pages also end at a number of bytes
    if (path !== "/chat/history" || query.after === undefined) return null;
    const found = server.messages.filter(({ seq }) => seq > Number(query.after));
    return { status: 200, body: { conversation_id: "c1", messages: structuredClone(found.slice(0, 7)), has_more: found.length > 7 } };
  };
  await clock.advance(2_000);
  complete();
  assert.deepEqual([conversation.state, conversation.messages.length], ["live", 81]);
});

test("the receipts of older messages are loaded as well, and the hole first", async () => {
  const { clock, server, conversation, complete } = await withHole();
  server.messages.forEach((message) => { message.delivered_at ??= message.sent_at; });
  server.ephemeral({ type: "resync" });
  await clock.advance(2_000);
  complete();
  assert.ok(conversation.messages.every(({ delivered_at }) => delivered_at));
});
