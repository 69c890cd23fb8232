// Gaps: a message arrives long after those behind it. A load starts at the largest `seq` without a gap before it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PATIENT } from "./support/fake-server.js";
import { setUp } from "./support/set-up.js";

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
