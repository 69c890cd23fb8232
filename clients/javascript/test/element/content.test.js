// The text of a message: what becomes a link, and where a long one is cut.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fold } from "../../element/content/fold.js";
import { linkify } from "../../element/content/linkify.js";
import { forSeeds } from "./random.js";

const links = (text) => linkify(text).filter(({ href }) => href !== null).map(({ text, href }) => [text, href]);
const join = (segments) => segments.map(({ text }) => text).join("");

test("addresses become links without the punctuation of the sentence", () => {
  for (const [text, link, href = link] of [
    ["See https://example.org/a?b=c#d.", "https://example.org/a?b=c#d"],
    ["(https://example.org/wiki/Fever_(medicine))", "https://example.org/wiki/Fever_(medicine)"],
    ["HTTP://EXAMPLE.org/A!", "HTTP://EXAMPLE.org/A", "http://example.org/A"],
    ["www.example.org, please", "www.example.org", "https://www.example.org/"],
    ["“https://example.org/x”", "https://example.org/x"],
    ["http://localhost:8080/x", "http://localhost:8080/x"],
    ["https://bücher.example/ü", "https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"],
    ["שלום https://example.org/א סוף", "https://example.org/א", "https://example.org/%D7%90"],
  ]) assert.deepEqual(links(text), [[link, href]], text);
});

test("what hides its host or has another scheme is no link", () => {
  for (const text of [
    "javascript:alert(1)", "data:text/html,<script>1</script>", "vbscript:x", "file:///etc/passwd", "ftp://example.org", "https://", "https://x", "mailto:a@b.example",
    "https://bank.example@evil.example/", "https://user:secret@example.org/", "me@www.example.org", "xhttps://example.org", "JaVaScRiPt:alert(1)//x",
  ]) assert.deepEqual(links(text), [], text);
});

test("phone numbers become links", () => {
  for (const [text, phone, href] of [
    ["Call +49 30 1234567 now", "+49 30 1234567", "tel:+49301234567"],
    ["+49 (0)30 123456-78", "+49 (0)30 123456-78", "tel:+493012345678"],
    ["+1 (555) 123-4567", "+1 (555) 123-4567", "tel:+15551234567"],
    ["030/123 456 78", "030/123 456 78", "tel:03012345678"],
    ["020 7946 0958.", "020 7946 0958", "tel:02079460958"],
    ["(555) 123-4567", "(555) 123-4567", "tel:5551234567"],
    ["555-123-4567?", "555-123-4567", "tel:5551234567"],
    ["(tel. 0151 23456789)", "0151 23456789", "tel:015123456789"],
    ["+972 3-123-4567 חייג", "+972 3-123-4567", "tel:+97231234567"],
  ]) assert.deepEqual(links(text), [[phone, href]], text);
});

test("doses, values, dates and times are no phone numbers", () => {
  for (const text of [
    "ibuprofen 400mg?", "120/80 at 10:30", "on 01.02.2026 at 10:30", "05/11/2026", "2026-11-30", "09-11-2026", "0,5 mg", "0.125 mg", "1000000", "12345678",
    "record 100234", "ICD F32.1", "1-2-3", "INR 2.5-3.5", "3 x 500 mg", "1,234,567.89", "0987654321%", "v1.2.3.4.5.6.7.8", "+5", "ab0301234567", "2026-11-30T10:30:00",
  ]) assert.deepEqual(links(text), [], text);
});

const PIECES = [
  "https://example.org/a", "www.example.org", "javascript:alert(1)", "+49 30 1234567", "0151 23456789", "400mg", "(", ")", ".", ",", " ", "\n", "<b>", "&amp;", "שלום", "👩‍⚕️", "e\u0301",
  "https://a.b@c.d", "http://[::1]/", "::", "%00", "\u202e", "\ud800", "word", "0", "1", "+", "/", "-", "“",
];

test("property: linkify keeps the text and makes safe links only", () => {
  forSeeds(3_000, ({ pick, integer }) => {
    const text = Array.from({ length: integer(0, 30) }, () => pick(PIECES)).join("");
    const segments = linkify(text);
    assert.equal(join(segments), text);
    for (const { href } of segments) {
      if (href === null) continue;
      const url = new URL(href);
      assert.match(href, url.protocol === "tel:" ? /^tel:\+?\d{8,15}$/ : /^https?:\/\/[^/]/);
      assert.equal(url.username + url.password, "");
    }
  });
});

test("linkify takes linear time for what looks like addresses", () => {
  const began = performance.now();
  for (const text of ["+1 ".repeat(2_600), "(".repeat(8_000), `https://${"(".repeat(8_000)}`, `https://${".".repeat(8_000)}`, "0 ".repeat(4_000), "www.".repeat(2_000)]) assert.equal(join(linkify(text)), text);
  assert.ok(performance.now() - began < 1_000);
});

/** What `linkify` cuts from the end of an address, in the simplest words. */
function trimSimply(url) {
  const count = (character) => url.split(character).length;
  const last = url.at(-1);
  const isUnopened = [["(", ")"], ["[", "]"], ["{", "}"]].some(([opening, closing]) => last === closing && count(closing) > count(opening));
  return isUnopened || ".,:;!?'’*_~…".includes(last) ? trimSimply(url.slice(0, -1)) : url;
}

test("property: an address ends before the punctuation and the brackets of its sentence", () => {
  forSeeds(3_000, ({ pick, integer }) => {
    const url = `https://example.org/${Array.from({ length: integer(0, 12) }, () => pick([..."()[]{}.,:;!?'’*_~…ab/"])).join("")}`;
    assert.deepEqual(links(`(${url}`).map(([text]) => text), [trimSimply(url)], url);
  });
});

test("linkify goes through the brackets at the end of an address once", (t) => {
  const url = `http://example.org/${")".repeat(7_900)}`;
  const slices = t.mock.method(String.prototype, "slice");
  const splits = t.mock.method(String.prototype, "split");
  const segments = linkify(url);
  const calls = slices.mock.callCount() + splits.mock.callCount();
  t.mock.restoreAll();
  assert.deepEqual(segments.map(({ text }) => text), ["http://example.org/", ")".repeat(7_900)]);
  assert.ok(calls < 20, `${calls} calls that copy the address`);
});

test("an address ends at a character that changes the direction of text", () => {
  for (const control of ["\u061c", "\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2069"]) {
    assert.deepEqual(links(`https://example.org/a${control}gpj.exe`).map(([text]) => text), ["https://example.org/a"], control.codePointAt(0).toString(16));
  }
});

test("short messages stay whole, long ones are cut at a word", () => {
  assert.equal(fold(linkify("short")), null);
  assert.equal(fold(linkify("word ".repeat(260))), null, "a button for 100 characters more is not worth it");
  const head = fold(linkify("word ".repeat(400)));
  assert.match(join(head), /word$/);
  assert.ok(join(head).length <= 1_200);
  assert.equal(join(fold(linkify("line\n".repeat(60)))).split("\n").length, 16);
});

test("a cut goes through no address", () => {
  const address = `https://example.org/${"path/".repeat(40)}`;
  const head = fold(linkify(`${"a".repeat(1_100)} ${address} ${"word ".repeat(100)}`));
  assert.ok(head.every(({ href }) => href === null));
  assert.equal(fold(linkify(`https://example.org/${"x".repeat(4_000)}`)), null, "one address is shown whole");
});

test("property: the head is a prefix, its links are whole, and it splits no character", () => {
  forSeeds(500, ({ pick, integer }) => {
    const text = Array.from({ length: integer(0, 900) }, () => pick(PIECES)).join("");
    const segments = linkify(text);
    const head = fold(segments);
    if (head === null) return;
    assert.ok(text.startsWith(join(head)) && join(head).length < text.length);
    for (const segment of head) if (segment.href !== null) assert.ok(segments.includes(segment));
    const rest = text.slice(join(head).length);
    assert.ok(!(/[\ud800-\udbff]$/.test(join(head)) && /^[\udc00-\udfff]/.test(rest)), "half a character");
  });
});
