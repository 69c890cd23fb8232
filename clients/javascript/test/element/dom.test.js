// Parts that touch the document: properties of an element that is not defined yet, and what counts as read.

import assert from "node:assert/strict";
import { test } from "node:test";

import { upgradeProperties } from "../../element/dom.js";
import { ReadMarker } from "../../element/messages/read-marker.js";

test("values that a page set before the element was defined reach the setters, in the given order", () => {
  const set = [];
  class Upgraded {
    set chat(value) { set.push(["chat", value]); }
    set peer(value) { set.push(["peer", value]); }
    set people(value) { set.push(["people", value]); }
  }
  const element = { peer: { user_id: "doc1" }, chat: "chat", other: 1 };
  Object.setPrototypeOf(element, Upgraded.prototype); // as the browser does for an element that waits for its definition
  upgradeProperties(element, ["chat", "peer", "people"]);
  assert.deepEqual(set, [["chat", "chat"], ["peer", { user_id: "doc1" }]]);
  assert.deepEqual(Object.keys(element), ["other"]);
  element.peer = null;
  assert.deepEqual(set.at(-1), ["peer", null], "the setter works from then on");
});

/** A marker on a visible page without a layout. `see(row)` brings the end of a row into view. */
function createMarker(t) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let report;
  const fakes = {
    document: { visibilityState: "visible", addEventListener() {}, removeEventListener() {} },
    IntersectionObserver: class { constructor(onChange) { report = onChange; } observe() {} unobserve() {} disconnect() {} },
  };
  for (const [name, value] of Object.entries(fakes)) {
    globalThis[name] = value;
    t.after(() => { delete globalThis[name]; });
  }
  const marked = [];
  const marker = new ReadMarker((messages) => marked.push(...messages.map(({ key }) => key)));
  return { marker, marked, see: (row, isIntersecting = true) => report([{ target: row.end, isIntersecting }]) };
}

const createRow = (key, isFolded) => ({ end: { key }, isFolded, message: { key, mine: false, read_at: null } });

test("a folded message counts as read after the reader unfolds it and sees its end", (t) => {
  const { marker, marked, see } = createMarker(t);
  const [short, long] = [createRow("short", false), createRow("long", true)];
  for (const row of [short, long]) { marker.add(row); see(row); }
  t.mock.timers.tick(600);
  assert.deepEqual(marked, ["short"]);
  short.message.read_at = "now";
  long.isFolded = false;
  marker.schedule();
  see(long, false); // the rest moves the end out of view
  t.mock.timers.tick(600);
  assert.deepEqual(marked, ["short"]);
  see(long);
  t.mock.timers.tick(600);
  assert.deepEqual(marked, ["short", "long"]);
});
