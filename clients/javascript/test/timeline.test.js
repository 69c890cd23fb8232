import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatError } from "../src/errors.js";
import { Timeline } from "../src/conversation/timeline.js";
import { seeded } from "./support/fake-clock.js";

const me = { user_id: "doc123" };
const theirs = (seq, more = {}) => ({ id: `m${seq}`, seq, sender_contact_id: "pat456", content: `text ${seq}`, sent_at: "2026-11-22T12:00:00Z", ...more });
const mine = (seq, more = {}) => ({ ...theirs(seq, more), sender_contact_id: undefined, sender_user_id: "doc123" });
const seqs = (timeline) => timeline.messages.map(({ seq }) => seq);

test("messages stand by seq, once each, in any order of arrival", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = seeded(seed);
    const timeline = new Timeline(me);
    timeline.startAt(1);
    const all = Array.from({ length: 30 }, (_, index) => index + 1);
    const order = [...all, ...all].map((seq) => [random(), seq]).sort(([a], [b]) => a - b).map(([, seq]) => seq);
    for (const seq of order) {
      timeline.merge(theirs(seq));
      assert.deepEqual(seqs(timeline), [...new Set(seqs(timeline))].sort((a, b) => a - b));
      const missing = all.find((wanted) => !seqs(timeline).includes(wanted)) ?? null;
      assert.equal(timeline.firstMissingSeq, missing === null || missing > timeline.lastSeq ? null : missing);
      assert.ok(timeline.firstStaleSeq(0) <= (missing ?? 31));
    }
    assert.deepEqual(seqs(timeline), all);
    assert.equal(timeline.firstMissingSeq, null);
  }
});

test("a confirmed message replaces its pending one under one key", () => {
  const timeline = new Timeline(me);
  timeline.addPending("uuid-1", "first", "2026-11-22T12:00:00Z");
  timeline.addPending("uuid-2", "second", "2026-11-22T12:00:01Z");
  const key = timeline.messages[0].key;
  const { confirms } = timeline.merge(mine(7, { client_message_id: "uuid-1" }));
  assert.equal(confirms, true);
  assert.deepEqual(timeline.messages.map((message) => [message.key, message.status]), [[key, "sent"], ["uuid-2", "sending"]]);
  assert.equal(timeline.merge(mine(7, { client_message_id: "uuid-1" })).isNew, false);
  assert.equal(timeline.messages.length, 2);
});

test("another participant's client_message_id confirms nothing", () => {
  const timeline = new Timeline(me);
  timeline.addPending("uuid-1", "mine", "2026-11-22T12:00:00Z");
  assert.equal(timeline.merge(theirs(1, { client_message_id: "uuid-1" })).confirms, false);
  assert.deepEqual(timeline.messages.map(({ status }) => status), ["sent", "sending"]);
});

test("ticks never go back and the first time stands", () => {
  const timeline = new Timeline(me);
  timeline.merge(mine(1));
  timeline.applyReceipt(["m1"], { read_at: "2026-11-22T12:00:05Z" });
  timeline.applyReceipt(["m1"], { delivered_at: "2026-11-22T12:00:03Z" });
  timeline.merge(mine(1, { delivered_at: null, read_at: null }));
  timeline.applyReceipt(["m1"], { read_at: "2026-11-22T13:00:00Z" });
  const [message] = timeline.messages;
  assert.equal(message.status, "read");
  assert.equal(message.read_at, "2026-11-22T12:00:05Z");
  assert.ok(message.delivered_at, "read implies delivered");
});

test("early receipts are kept, up to a bound", () => {
  const timeline = new Timeline(me);
  timeline.applyReceipt(["m1"], { delivered_at: "2026-11-22T12:00:03Z" });
  timeline.applyReceipt(["m1"], { read_at: "2026-11-22T12:00:05Z" });
  timeline.merge(mine(1));
  assert.equal(timeline.messages[0].status, "read");
  timeline.applyReceipt(["oldest"], { read_at: "2026-11-22T12:00:05Z" });
  timeline.applyReceipt(Array.from({ length: 1_000 }, (_, index) => `x${index}`), { read_at: "2026-11-22T12:00:05Z" });
  timeline.merge(mine(2, { id: "oldest" }));
  assert.equal(timeline.messages[1].status, "sent", "the oldest was dropped");
});

test("the first missing seq is known until it arrives", () => {
  const timeline = new Timeline(me);
  assert.equal(timeline.firstStaleSeq(0), 1);
  for (const seq of [4, 5, 8]) timeline.merge(theirs(seq));
  assert.equal(timeline.firstMissingSeq, 6, "the beginning is not known yet");
  timeline.startAt(3);
  assert.deepEqual([timeline.firstMissingSeq, timeline.firstStaleSeq(0)], [3, 3]);
  timeline.merge(theirs(3));
  assert.deepEqual([timeline.firstMissingSeq, timeline.firstStaleSeq(0)], [6, 6]);
  timeline.merge(theirs(6));
  assert.equal(timeline.firstMissingSeq, 7);
  timeline.merge(theirs(7));
  assert.equal(timeline.firstMissingSeq, null);
});

test("a timeline that starts later misses nothing from before", () => {
  const timeline = new Timeline(me);
  timeline.startAt(1);
  for (const seq of [1, 2, 9, 10]) timeline.merge(theirs(seq));
  timeline.startAt(9);
  assert.deepEqual([seqs(timeline), timeline.firstMissingSeq, timeline.firstStaleSeq(0)], [[9, 10], null, 11]);
  timeline.addPending("uuid-1", "sent long ago", "2026-11-22T12:00:00Z");
  assert.deepEqual(timeline.merge(theirs(4)), { message: timeline.merge(theirs(4)).message, isNew: false, confirms: false });
  assert.equal(timeline.merge(mine(3, { client_message_id: "uuid-1" })).confirms, true);
  assert.deepEqual(timeline.messages.map(({ seq }) => seq), [9, 10], "nothing waits any more");
  assert.equal(timeline.trim(1), true);
  assert.deepEqual([timeline.firstSeq, timeline.firstMissingSeq], [10, null]);
  timeline.startAt(20);
  assert.deepEqual([seqs(timeline), timeline.lastSeq, timeline.firstMissingSeq, timeline.firstStaleSeq(500)], [[], 0, null, 20]);
});

test("a refetch reaches back to the oldest unread, up to a bound", () => {
  const timeline = new Timeline(me);
  for (let seq = 1; seq <= 100; seq++) timeline.merge(mine(seq, { read_at: seq < 40 || seq > 60 ? "2026-11-22T12:00:05Z" : null }));
  assert.equal(timeline.firstStaleSeq(500), 40);
  assert.equal(timeline.firstStaleSeq(50), 51);
  assert.equal(timeline.firstStaleSeq(20), 101);
});

test("the array is stable until a change, and messages are frozen", () => {
  const timeline = new Timeline(me);
  timeline.merge(mine(1));
  const before = timeline.messages;
  timeline.merge(mine(1));
  assert.equal(timeline.messages, before);
  timeline.applyReceipt(["m1"], { delivered_at: "2026-11-22T12:00:03Z" });
  assert.notEqual(timeline.messages, before);
  assert.equal(before[0].status, "sent", "what was handed out did not change");
  assert.throws(() => { timeline.messages[0].content = "other"; }, TypeError);
});

test("a failed message keeps its place until it is retried", () => {
  const timeline = new Timeline(me);
  timeline.addPending("a", "one", "2026-11-22T12:00:00Z");
  timeline.addPending("b", "two", "2026-11-22T12:00:00Z");
  timeline.setSendError("a", new ChatError("no", { status: 422 }));
  assert.deepEqual(timeline.messages.map(({ content, status }) => [content, status]), [["one", "failed"], ["two", "sending"]]);
  timeline.setSendError("a", null);
  assert.deepEqual(timeline.messages.map(({ content, status }) => [content, status]), [["two", "sending"], ["one", "sending"]]);
});
