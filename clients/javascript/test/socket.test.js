// The connection: what follows each close code and each failure.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../src/index.js";
import { DOCTOR, PATIENT, problem, token } from "./support/fake-server.js";
import { statuses, texts, setUp } from "./support/set-up.js";

async function connected(options) {
  const all = await setUp(options);
  const conversation = all.open();
  await all.clock.advance(1_000);
  assert.equal(conversation.state, "live");
  return { ...all, conversation };
}

test("the token travels as a subprotocol and a header, never in a URL", async () => {
  const { server } = await connected();
  assert.equal(server.handshakes[0].token, token(DOCTOR));
  for (const { query } of [...server.handshakes, ...server.requests]) assert.ok(!JSON.stringify(query).includes(token(DOCTOR)));
});

for (const [code, least, most] of [[1001, 0, 501], [1006, 0, 501], [4408, 0, 501], [1013, 5_000, 5_501], [4429, 30_000, 30_501]]) {
  test(`close code ${code} reconnects within ${least} to ${most} ms`, async () => {
    const { clock, server, conversation } = await connected();
    await clock.advance(60_000);
    server.cutAll(code);
    assert.equal(conversation.state, "reconnecting");
    const handshakes = server.handshakes.length;
    await clock.advance(least - 1);
    if (least > 0) assert.equal(server.handshakes.length, handshakes, "too early");
    await clock.advance(most - least + 1);
    assert.equal(server.handshakes.length, handshakes + 1);
    assert.equal(conversation.state, "live");
  });
}

test("close code 4403 is not retried soon", async () => {
  const { clock, server, conversation } = await connected();
  server.cutAll(4403);
  await clock.advance(600_000);
  assert.equal(conversation.state, "refused");
  assert.equal(conversation.error.status, 403);
  assert.equal(server.handshakes.length, 1);
});

test("an unreachable server is retried less often, with jitter", async () => {
  const randoms = [];
  const { clock, server } = await connected({ chat: { random: () => { const value = (randoms.length % 10) / 10; randoms.push(value); return value; } } });
  server.handshake = () => false;
  server.intercept = () => "request-lost";
  server.cutAll();
  const before = server.handshakes.length;
  await clock.advance(10 * 60_000);
  const tries = server.handshakes.length - before;
  assert.ok(tries > 15 && tries < 80, `${tries} in ten minutes`);
  assert.ok(randoms.length > 15);
});

test("a gateway that closes at once is retried slowly", async () => {
  const { clock, server } = await connected();
  const before = server.handshakes.length;
  const end = clock.now() + 120_000;
  while (clock.now() < end) { server.cutAll(1006); await clock.advance(100); }
  assert.ok(server.handshakes.length - before < 25, String(server.handshakes.length - before));
});

test("`expiring` sends a fresh token on the open socket", async () => {
  const asked = [];
  const { clock, server, conversation } = await connected({
    chat: { token: (reason) => { asked.push(reason); return token(DOCTOR, `t${asked.length}`); } },
  });
  server.broadcast({ type: "expiring", expires_at: "2026-11-22T13:00:00Z" });
  await clock.settle();
  assert.deepEqual(asked, ["first", "expiring"]);
  assert.deepEqual(server.live[0].sent.filter(({ type }) => type === "auth"), [{ type: "auth", token: token(DOCTOR, "t2") }]);
  assert.equal(server.handshakes.length, 1);
  server.cutAll();
  await clock.advance(1_000);
  assert.equal(server.handshakes[1].token, token(DOCTOR, "t2"));
  assert.equal(conversation.state, "live");
});

test("`expiring` is emitted when there is no other token", async () => {
  const { clock, server, chat } = await connected();
  const expiries = [];
  chat.on("expiring", ({ expires_at }) => expiries.push(expires_at));
  server.broadcast({ type: "expiring", expires_at: "2026-11-22T13:00:00Z" });
  await clock.settle();
  assert.deepEqual(expiries, ["2026-11-22T13:00:00Z"]);
  chat.setToken(token(DOCTOR, "2"));
  assert.equal(server.live[0].sent.at(-1).type, "ping");
  assert.deepEqual(server.live[0].sent.filter(({ type }) => type === "auth").map(({ token }) => token), [token(DOCTOR, "2")]);
});

test("4401 and 401 share one request for a token", async () => {
  const asked = [];
  const { clock, server, chat, conversation } = await connected({
    chat: { token: async (reason) => { asked.push(reason); return token(DOCTOR, `t${asked.length}`); } },
  });
  chat.inbox();
  await clock.advance(1_000);
  server.refusedTokens.add(token(DOCTOR, "t1"));
  server.cutAll(4401);
  const sent = conversation.send("still here");
  await clock.advance(2_000);
  assert.equal((await sent).status, "sent");
  assert.equal(conversation.state, "live");
  assert.deepEqual(asked, ["first", "refused"]);
});

test("messages wait for another token and are sent with it", async () => {
  const { clock, server, chat, conversation } = await connected();
  let unauthorized = 0;
  chat.on("unauthorized", ({ status }) => { assert.equal(status, 401); unauthorized++; });
  server.refusedTokens.add(token(DOCTOR));
  server.cutAll(4401);
  conversation.send("for later");
  await clock.advance(10_000);
  assert.equal(conversation.state, "refused");
  assert.ok(unauthorized >= 1);
  assert.deepEqual(statuses(conversation), ["sending"]);
  assert.throws(() => chat.setToken(token(PATIENT)), { code: "token" });
  chat.setToken(token(DOCTOR, "2"));
  await clock.advance(1_000);
  assert.equal(conversation.state, "live");
  assert.deepEqual(statuses(conversation), ["sent"]);
});

test("a token callback that fails is called again", async () => {
  let calls = 0;
  const { clock, server, conversation } = await connected({
    chat: { token: () => { calls++; if (calls === 2 || calls === 3) throw new Error("the EHR is away"); return token(DOCTOR, `t${calls}`); } },
  });
  server.refusedTokens.add(token(DOCTOR, "t1"));
  server.cutAll(4401);
  await clock.advance(30_000);
  assert.equal(conversation.state, "live");
  assert.equal(calls, 4);
});

test("HTTP gives the reason for a refused handshake", async () => {
  const forbidden = await setUp();
  forbidden.server.handshake = () => false;
  forbidden.server.intercept = () => problem(403, "the token is not for this location");
  const conversation = forbidden.open();
  await forbidden.clock.advance(1_000);
  assert.equal(conversation.state, "refused");
  assert.equal(conversation.error.message, "the token is not for this location");

  const away = await setUp();
  away.server.handshake = () => false;
  away.server.intercept = () => ({ status: 503, body: { detail: "away" }, headers: { "Retry-After": "40" } });
  const patient = away.open();
  await away.clock.advance(39_000);
  assert.equal(away.server.handshakes.length, 1, "Retry-After");
  assert.equal(patient.state, "connecting");
});

test("a refused handshake that only emits `error` is retried", async () => {
  const { clock, server, open } = await setUp();
  let refuse = true;
  const close = server.WebSocket.prototype.cut;
  server.WebSocket.prototype.cut = function (code) { if (refuse) this.onerror?.({}); else close.call(this, code); };
  server.handshake = () => !refuse;
  const conversation = open();
  await clock.advance(2_000);
  assert.ok(server.handshakes.length > 1, "did not wait for the time limit");
  refuse = false;
  await clock.advance(10_000);
  assert.equal(conversation.state, "live");
});

test("the history is polled while no socket opens", async () => {
  const { clock, server, conversation } = await connected();
  server.handshake = () => false;
  server.cutAll();
  server.write(PATIENT, "by another way");
  await clock.advance(6_000);
  assert.deepEqual(texts(conversation), ["by another way"]);
});

test("a dead connection is detected within 35 s of its last frame, whenever that was", async () => {
  for (const lastFrameMs of [0, 1_000, 20_000, 24_999, 25_000, 26_000, 60_001]) {
    const { clock, server, conversation } = await connected();
    const [socket] = server.live;
    const { give } = socket;
    let receivedAt = clock.elapsed();
    socket.give = (frame) => { receivedAt = clock.elapsed(); give.call(socket, frame); };
    await clock.advance(lastFrameMs);
    socket.give({ type: "presence", ...PATIENT, online: true, last_seen_at: null });
    socket.give = () => {}; // drops all frames from now on
    let detectedAt = null;
    conversation.on("state", (state) => { if (state === "reconnecting") detectedAt ??= clock.elapsed(); });
    await clock.advance(60_000);
    assert.ok(detectedAt !== null && detectedAt - receivedAt <= 35_000, `${lastFrameMs}: ${detectedAt - receivedAt}`);
    assert.deepEqual([server.handshakes.length, conversation.state, socket.readyState], [2, "live", 3]);
  }
});

test("a connection that dies right after an answer to a ping is detected within 35 s", async () => {
  const { clock, server, conversation } = await connected();
  const [socket] = server.live;
  const { give } = socket;
  let answeredAt = null;
  socket.give = (frame) => {
    if (answeredAt !== null) return;
    if (frame.type === "pong") answeredAt = clock.elapsed();
    give.call(socket, frame);
  };
  let detectedAt = null;
  conversation.on("state", (state) => { if (state === "reconnecting") detectedAt ??= clock.elapsed(); });
  await clock.advance(120_000);
  assert.equal(detectedAt - answeredAt, 35_000);
});

test("a quiet connection stays open", async () => {
  const { clock, server } = await connected();
  await clock.advance(10 * 60_000);
  assert.equal(server.handshakes.length, 1);
  assert.ok(server.live[0].sent.every(({ type }) => type === "ping"));
});

test("a server that sends no first frame is abandoned", async () => {
  const { clock, server, open } = await setUp();
  server.WebSocket.prototype.give = () => {};
  const conversation = open();
  await clock.advance(60_000);
  assert.ok(server.handshakes.length >= 2);
  assert.equal(conversation.state, "blocked", "HTTP works all the while");
});

test("connect names what it lacks", async () => {
  await assert.rejects(connect({ token: "nonsense", url: "http://chat.test", WebSocket: class {} }), { code: "token" });
  await assert.rejects(connect({ token: token(DOCTOR) }), /url/);
  const nameless = token({ user_id: undefined, contact_id: undefined });
  await assert.rejects(connect({ token: nameless, url: "http://chat.test", WebSocket: class {} }), /me/);
  if (!globalThis.WebSocket) await assert.rejects(connect({ token: token(DOCTOR), url: "http://chat.test" }), /WebSocket/);
});
