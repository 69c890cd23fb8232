// Which rows are rendered, where they are, and what they show.

import assert from "node:assert/strict";
import { test } from "node:test";

import { RowHeights } from "../../element/messages/row-heights.js";
import { Rows } from "../../element/messages/rows.js";
import { computeWindow, MAX_ROWS, suffices } from "../../element/messages/window.js";
import { forSeeds } from "./random.js";

test("property: offsets are sums of heights, and each position finds its row", () => {
  forSeeds(300, ({ random, integer }) => {
    const heights = Array.from({ length: integer(0, 300) }, () => integer(1, 90));
    const rows = new RowHeights();
    rows.replace(heights);
    for (let step = 0; step < 30 && heights.length > 0; step++) {
      const index = integer(0, heights.length - 1);
      heights[index] = integer(1, 400);
      rows.set(index, heights[index]);
      if (random() < 0.500) rows.offsetOf(integer(0, heights.length));
    }
    let offset = 0;
    for (const [index, height] of heights.entries()) {
      assert.equal(rows.offsetOf(index), offset);
      assert.equal(rows.indexAt(offset), index);
      assert.equal(rows.indexAt(offset + height - 1), index);
      offset += height;
    }
    assert.equal(rows.total, offset);
    assert.equal(rows.indexAt(-5), 0);
    assert.equal(rows.indexAt(offset + 5), Math.max(heights.length - 1, 0));
  });
});

test("heights of fewer rows forget the rows behind them", () => {
  const rows = new RowHeights();
  rows.replace([10, 20, 30]);
  assert.equal(rows.total, 60);
  rows.replace([5]);
  assert.deepEqual([rows.total, rows.count, rows.indexAt(100)], [5, 1, 0]);
  rows.replace([]);
  assert.deepEqual([rows.total, rows.indexAt(0)], [0, 0]);
});

test("property: the window holds what is in view, and no more than 200 rows unless more are in view", () => {
  forSeeds(3_000, ({ integer }) => {
    const count = integer(0, 5_000);
    const first = integer(0, Math.max(count - 1, 0));
    const visible = { first, last: Math.min(first + integer(0, 260), count) };
    const range = computeWindow(visible, count);
    assert.ok(range.first >= 0 && range.last <= count);
    assert.ok(range.first <= visible.first && range.last >= visible.last);
    assert.ok(range.last - range.first <= Math.max(MAX_ROWS, visible.last - visible.first));
    assert.ok(suffices(range, visible, count), "what was just rendered suffices");
  });
});

test("property: rendered rows that suffice hold what is in view", () => {
  forSeeds(3_000, ({ integer }) => {
    const count = integer(1, 500);
    const [a, b] = [integer(0, count), integer(0, count)];
    const rendered = { first: Math.min(a, b), last: Math.max(a, b) };
    const first = integer(0, count - 1);
    const visible = { first, last: Math.min(first + integer(1, 30), count) };
    if (suffices(rendered, visible, count)) assert.ok(rendered.first <= visible.first && rendered.last >= visible.last);
  });
});

const message = (seq, more = {}) => ({ key: `m${seq}`, id: `m${seq}`, seq, mine: false, status: "sent", content: "x", sent_at: new Date(2026, 10, 1, 12, 0, seq).toISOString(), read_at: null, ...more });

test("rows keep their identity until something that they show changes", () => {
  const rows = new Rows();
  const messages = Array.from({ length: 50 }, (_, index) => message(index + 51));
  const first = rows.update(messages, null);
  const second = rows.update([...messages, message(101)], null);
  assert.ok(first.every((row, index) => row === second[index]));
  const third = rows.update([...messages.slice(0, 49), { ...messages[49], status: "read" }, message(101)], null);
  assert.equal(third.filter((row, index) => row !== second[index]).length, 2, "the message that was read, and the new object of the last one");
  const older = Array.from({ length: 50 }, (_, index) => message(index + 1));
  const fourth = rows.update([...older, ...messages], null);
  assert.deepEqual(fourth.map(({ startsDay }) => startsDay).filter(Boolean), [true], "one heading for the day");
  assert.equal(fourth[0].startsDay, true);
});

test("the line of new messages stands before the first received message from there on", () => {
  const rows = new Rows();
  const messages = [message(1), message(2, { mine: true }), message(3), message(4)];
  assert.deepEqual(rows.update(messages, 2).map(({ startsUnread }) => startsUnread), [false, false, true, false]);
  assert.deepEqual(rows.update(messages, 9).map(({ startsUnread }) => startsUnread), [false, false, false, false]);
  assert.deepEqual(rows.update(messages, null).map(({ startsUnread }) => startsUnread), [false, false, false, false]);
});

test("a message joins one of the same author on the same day within five minutes", () => {
  const rows = new Rows();
  const at = (day, hour, minute) => new Date(2026, 10, day, hour, minute).toISOString();
  const list = [
    message(1, { sent_at: at(1, 12, 0) }), message(2, { sent_at: at(1, 12, 4) }), message(3, { sent_at: at(1, 12, 10) }),
    message(4, { sent_at: at(1, 12, 11), mine: true }), message(5, { sent_at: at(1, 23, 59) }), message(6, { sent_at: at(2, 0, 1) }),
  ];
  assert.deepEqual(rows.update(list, null).map(({ isJoined }) => isJoined), [false, true, false, false, false, false]);
  assert.deepEqual(rows.update(list, null).map(({ startsDay }) => startsDay), [true, false, false, false, false, true]);
  assert.equal(rows.update(list, 2)[1].isJoined, false, "the line is between them");
});
