// The states `offline` and `blocked`, the time of the next attempt, and attempts that the user asks for.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PATIENT, problem } from "./support/fake-server.js";
import { openPage } from "./support/fake-page.js";
import { setUp, statuses, texts } from "./support/set-up.js";

async function connected(options) {
  const all = await setUp(options);
  const conversation = all.open();
  const inbox = all.chat.inbox();
  await all.clock.advance(1_000);
  const states = [];
  conversation.on("state", (state) => states.push(state));
  return { ...all, conversation, inbox, states };
}

test("without sockets and HTTP the state is `offline`, and a success leaves it", async () => {
  const { clock, server, conversation, inbox, states } = await connected();
  server.intercept = () => "request-lost";
  server.handshake = () => false;
  server.cutAll();
  assert.deepEqual(states, ["reconnecting"], "at once");
  await clock.advance(1_000);
  assert.deepEqual([conversation.state, inbox.state, conversation.error.code], ["offline", "offline", "network"]);
  server.intercept = ({ path }) => (path === "/chat/history" ? null : "request-lost");
  while (conversation.state === "offline") await clock.advance(500);
  assert.equal(conversation.state, "reconnecting", "HTTP is back, the socket is not");
  server.intercept = () => null;
  server.handshake = () => true;
  await clock.advance(30_000);
  assert.deepEqual([conversation.state, inbox.state, conversation.error], ["live", "live", null]);
});

test("a server that does not answer at all is `offline`", async () => {
  const { clock, server, open } = await setUp({ prepare: (server) => { server.intercept = () => "no-response"; server.handshake = () => false; } });
  const conversation = open();
  await clock.advance(16_000);
  assert.deepEqual([conversation.state, conversation.error.code], ["offline", "timeout"]);
  server.intercept = () => problem(503, "overloaded");
  await clock.advance(16_000);
  assert.deepEqual([conversation.state, conversation.error.status], ["connecting", 503], "a response proves that there is a network");
});

test("a lost request does not change the state of a connection that works", async () => {
  const { clock, server, conversation, states } = await connected();
  server.intercept = () => "request-lost";
  conversation.send("waits");
  await clock.advance(20_000);
  assert.deepEqual([conversation.state, states], ["live", []]);
});

test("the platform's `offline` counts at once, until something arrives all the same", async (t) => {
  const page = openPage(t);
  const { clock, server, conversation, inbox, states } = await connected();
  const resume = server.pauseDelivery();
  page.setOnline(false);
  assert.deepEqual([conversation.state, inbox.state, states], ["offline", "offline", ["offline"]]);
  resume();
  server.write(PATIENT, "the network is there after all");
  assert.deepEqual([conversation.state, inbox.state], ["live", "live"]);
  assert.deepEqual(texts(conversation), ["the network is there after all"]);

  server.pauseDelivery();
  page.setOnline(false);
  server.intercept = () => "request-lost";
  server.handshake = () => false;
  await clock.advance(60_000);
  assert.deepEqual([conversation.state, conversation.error.code], ["offline", "network"]);
  server.intercept = () => null;
  server.handshake = () => true;
  page.setOnline(true);
  await clock.advance(100);
  assert.deepEqual([conversation.state, inbox.state], ["live", "live"], "without a wait");
});

test("a chat that starts without a network is `offline`", async (t) => {
  const page = openPage(t, { onLine: false });
  const { clock, server, open } = await setUp({ prepare: (server) => { server.intercept = () => "request-lost"; server.handshake = () => false; } });
  const conversation = open();
  assert.equal(conversation.state, "offline");
  server.intercept = () => null;
  server.handshake = () => true;
  page.setOnline(true);
  await clock.advance(1_000);
  assert.equal(conversation.state, "live");
});

test("sockets that never open while HTTP works are `blocked`, and messages flow all the same", async () => {
  const { clock, server, chat, open } = await setUp({ prepare: (server) => { server.handshake = () => false; } });
  const conversation = open();
  const inbox = chat.inbox();
  const states = [];
  conversation.on("state", (state) => states.push(state));
  await clock.advance(4_000);
  assert.equal(conversation.state, "connecting", "a gateway may just restart");
  await clock.advance(16_000);
  assert.deepEqual([conversation.state, inbox.state, conversation.error.code, inbox.error.code], ["blocked", "blocked", "websocket_blocked", "websocket_blocked"]);
  assert.ok(conversation.error.retryable);
  server.write(PATIENT, "polled");
  await clock.advance(6_000);
  assert.deepEqual([texts(conversation), inbox.unread], [["polled"], 1]);
  await conversation.send("sent");
  assert.deepEqual(statuses(conversation), ["delivered", "sent"]);
  server.handshake = () => true;
  await clock.advance(31_000);
  assert.deepEqual([conversation.state, inbox.state, conversation.error], ["live", "live", null]);
  assert.deepEqual(states, ["blocked", "live"]);
});

test("a gateway that restarts within five seconds is no block", async () => {
  const { clock, server, states } = await connected();
  server.handshake = () => false;
  server.cutAll();
  await clock.advance(4_500);
  server.handshake = () => true;
  await clock.advance(10_000);
  assert.deepEqual(states, ["reconnecting", "live"]);
});

test("a network that fails entirely is no block, and neither is the next one", async () => {
  const { clock, server, conversation, states } = await connected();
  server.handshake = () => false;
  server.cutAll();
  await clock.advance(20_000);
  assert.equal(conversation.state, "blocked");
  server.intercept = () => "request-lost";
  await clock.advance(10_000);
  assert.equal(conversation.state, "offline");
  server.intercept = () => null;
  while (conversation.state === "offline") await clock.advance(200);
  server.handshake = () => true;
  await clock.advance(31_000);
  assert.deepEqual(states, ["reconnecting", "blocked", "offline", "reconnecting", "live"]);
});

test("an origin that the server does not accept is `blocked` with its own code", async (t) => {
  openPage(t, { origin: "https://ehr.test" });
  const probes = [];
  let reaches = true;
  const { clock, server, open } = await setUp({
    prepare: (server) => {
      server.handshake = () => false;
      const { fetch } = server;
      server.fetch = (url, init) => {
        if (init.mode !== "no-cors") return fetch(url, init); // which `intercept` loses, as a browser does without CORS headers
        probes.push(url);
        return reaches ? Promise.resolve(new Response(null, { status: 204 })) : Promise.reject(new TypeError("Failed to fetch"));
      };
      server.intercept = () => "request-lost";
    },
  });
  const conversation = open();
  await clock.advance(1_000);
  assert.deepEqual([conversation.state, conversation.error.code], ["blocked", "origin_blocked"]);
  assert.equal(probes[0], "http://chat.test/healthz");
  reaches = false;
  await clock.advance(30_000);
  assert.deepEqual([conversation.state, conversation.error.code], ["offline", "network"]);
  reaches = true;
  server.intercept = () => null;
  server.handshake = () => true;
  await clock.advance(30_000);
  assert.equal(conversation.state, "live");
  const { length } = probes;
  server.intercept = () => "request-lost";
  server.handshake = () => false;
  server.cutAll();
  await clock.advance(30_000);
  assert.deepEqual([conversation.state, probes.length], ["offline", length], "the server accepted this origin before");
});

test("`retryAt` gives the time of the next attempt", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  assert.equal(conversation.retryAt, null);
  server.handshake = () => false;
  server.cutAll();
  await clock.advance(3_000);
  let changes = 0;
  conversation.on("change", () => changes++);
  for (let round = 0; round < 3; round++) {
    while (conversation.retryAt === null) await clock.advance(10);
    const due = conversation.retryAt;
    const { length } = server.handshakes;
    await clock.advance(due - clock.now() - 1);
    assert.equal(server.handshakes.length, length);
    const before = changes;
    await clock.advance(1);
    assert.equal(server.handshakes.length, length + 1);
    assert.ok(changes > before);
  }
  server.handshake = () => true;
  await clock.advance(60_000);
  assert.deepEqual([conversation.state, conversation.retryAt], ["live", null]);
});

test("`reconnect` ends every wait, even the one that the server asks for", async () => {
  const { clock, server, chat, conversation } = await connected();
  server.intercept = () => problem(503, "full", { headers: { "Retry-After": "200" } });
  server.handshake = () => false;
  server.cutAll();
  conversation.send("waits");
  await clock.advance(100_000);
  assert.deepEqual(statuses(conversation), ["sending"]);
  server.intercept = () => null;
  server.handshake = () => true;
  chat.reconnect();
  await clock.advance(100);
  assert.deepEqual([conversation.state, statuses(conversation), chat.retrying], ["live", ["sent"], []]);
});

test("`reconnect` replaces a handshake that hangs, and takes effect once a second", async () => {
  const { clock, server, chat, conversation } = await connected();
  const { give } = server.WebSocket.prototype;
  server.WebSocket.prototype.give = () => {}; // accepted, and silent
  server.cutAll();
  await clock.advance(5_000);
  const { length } = server.handshakes;
  server.WebSocket.prototype.give = give;
  chat.reconnect();
  await clock.advance(10);
  assert.ok(server.handshakes.length > length);
  assert.equal(conversation.state, "live");
  const pings = () => server.live.reduce((sum, { sent }) => sum + sent.filter(({ type }) => type === "ping").length, 0);
  await clock.advance(1_000);
  chat.reconnect();
  const once = pings();
  assert.ok(once > 0, "an open socket is checked");
  for (let click = 0; click < 10; click++) chat.reconnect();
  assert.equal(pings(), once);
});
