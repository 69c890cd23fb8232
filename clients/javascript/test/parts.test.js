import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { Backoff } from "../src/retry/backoff.js";
import { parseRetryAfter } from "../src/http/response.js";
import { readToken, uuidv7 } from "../src/index.js";
import { problem } from "./support/fake-server.js";
import { setUp } from "./support/set-up.js";

test("backoff has full jitter and doubles up to its cap", () => {
  const highest = new Backoff(() => 0.999999, { base: 500, cap: 30_000 });
  assert.deepEqual(Array.from({ length: 9 }, () => Math.ceil(highest.next())), [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  highest.reset();
  assert.equal(Math.ceil(highest.next()), 500);
  const lowest = new Backoff(() => 0);
  assert.deepEqual([lowest.next(), lowest.next(), lowest.next(3_000)], [0, 0, 3_000]);
  for (let tries = 0; tries < 2_000; tries++) assert.ok(highest.next() <= 30_000, "no overflow, however long");
});

test("Retry-After accepts seconds and dates", () => {
  const now = Date.parse("2026-11-22T12:00:00Z");
  assert.equal(parseRetryAfter("2", now), 2_000);
  assert.equal(parseRetryAfter("Sun, 22 Nov 2026 12:00:30 GMT", now), 30_000);
  assert.equal(parseRetryAfter("Sun, 22 Nov 2026 11:00:00 GMT", now), 0);
  assert.equal(parseRetryAfter("999999", now), 300_000);
  assert.deepEqual([parseRetryAfter(null, now), parseRetryAfter("", now), parseRetryAfter("soon", now)], [null, null, null]);
});

test("UUIDv7s are well-formed, ordered and unique", () => {
  const ids = Array.from({ length: 1_000 }, (_, index) => uuidv7(1_795_000_000_000 + index));
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.deepEqual([...ids].sort(), ids);
  assert.equal(Number.parseInt(ids[0].replaceAll("-", "").slice(0, 12), 16), 1_795_000_000_000);
  assert.equal(new Set(Array.from({ length: 1_000 }, () => uuidv7(0))).size, 1_000);
});

test("readToken reads EHR roles and SMART on FHIR claims", () => {
  const jwt = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;
  assert.deepEqual(readToken(jwt({ sub: "doc123", role: "user", locations: ["loc1"], exp: 5 })), { me: { user_id: "doc123" }, role: "user", locations: ["loc1"], expiresAt: 5_000 });
  assert.deepEqual(readToken(jwt({ sub: "x", fhirUser: "https://fhir.test/Patient/pat456" })).me, { contact_id: "pat456" });
  assert.deepEqual(readToken(jwt({ sub: "x", fhirUser: "PractitionerRole/doc123" })).me, { user_id: "doc123" });
  assert.equal(readToken(jwt({ sub: "x", fhirUser: "Device/1" })).me, null);
  assert.equal(readToken(jwt({ sub: "ehr", role: "service" })).me, null);
  assert.deepEqual(readToken(jwt({ sub: "Dr. Müller", role: "user" })).me, { user_id: "Dr. Müller" });
  for (const bad of ["", "nonsense", "a.b", "a.!!.c", "e30.bnVsbA.x"]) assert.throws(() => readToken(bad), { code: "token" });
});

test("problem bodies of the server become errors", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.intercept = ({ path }) => (path === "/chat/send" ? problem(409, "used before", { body: { request_id: "r7", code: "client_message_id_reused" } }) : null);
  await assert.rejects(conversation.send("x"), {
    name: "ChatError", status: 409, message: "used before", requestId: "r7", code: "client_message_id_reused", retryable: false, isForeign: false,
  });
});

test("the types know every code of the server", async () => {
  const file = (path) => readFile(new URL(path, import.meta.url), "utf8");
  const [errors, openapi, websocket] = await Promise.all(["../src/errors.js", "../../../openapi.yaml", "../../../docs/api/websocket.md"].map(file));
  const typed = (name) => [...errors.split("@typedef {").find((text) => text.includes(`} ${name}\n`)).split("}")[0].matchAll(/"(\w+)"/g)].map(([, code]) => code);
  const [, problem] = openapi.split("\n    Problem:\n");
  const documented = problem.split("\n        code:\n")[1].split("\n          enum:\n")[1].match(/^(?: {10}- \w+\n)+/)[0].match(/\w+/g);
  assert.ok(documented.length > 60);
  assert.deepEqual(typed("ProblemCode").sort(), documented.sort());
  const ofSockets = websocket.split("## Codes")[1].match(/`[a-z][a-z_0-9]*`/g).map((code) => code.slice(1, -1));
  const own = new Set(ofSockets.filter((code) => code.includes("_") && !documented.includes(code) && code !== "message_ids"));
  assert.deepEqual(typed("SocketCode").sort(), [...own].sort());
});

test("an error frame has the server's code", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const errors = [];
  conversation.on("error", (error) => errors.push(error));
  server.broadcast({ type: "error", code: "invalid", cause: "invalid_uuid", detail: "The elements of `message_ids` must be UUIDs." });
  server.broadcast({ type: "error", code: "rate_limited", cause: "rate_limited", detail: "Too many frames came at once." });
  assert.deepEqual(errors.map(({ status, code, retryable }) => [status, code, retryable]), [[0, "invalid_uuid", false], [0, "rate_limited", true]]);
});

test("a closed connection has the reason of the server as its code", async () => {
  for (const [closeCode, reason, code] of [
    [4408, "client_too_slow", "client_too_slow"], [4429, "too_many_sockets", "too_many_sockets"], [1001, "shutting_down", "shutting_down"],
    [1002, "protocol_error", "protocol_error"], [1006, "", "network"], [1001, "a proxy restarts", "network"],
  ]) {
    const { clock, server, open } = await setUp();
    const conversation = open();
    await clock.advance(1_000);
    server.handshake = () => false;
    server.cutAll(closeCode, reason);
    await clock.advance(0);
    assert.deepEqual([conversation.error.code, conversation.error.retryable, conversation.state], [code, true, "reconnecting"], reason);
  }
});

test("a refused token has the reason as its code", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const seen = [];
  conversation.on("state", () => seen.push([conversation.state, conversation.error?.status, conversation.error?.code]));
  server.refusedTokens.add(server.live[0].token);
  server.cutAll(4401, "token_revoked");
  await clock.advance(10_000);
  assert.deepEqual(seen, [["reconnecting", undefined, undefined], ["refused", 401, "token_revoked"]]);
});

test("a request without a response is aborted and retried", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  let times = 1;
  server.intercept = ({ path }) => (path === "/chat/send" && times-- > 0 ? "no-response" : null);
  conversation.send("eventually");
  await clock.advance(14_000);
  assert.equal(conversation.messages[0].status, "sending");
  await clock.advance(3_000);
  assert.equal(conversation.messages[0].status, "sent");
});
