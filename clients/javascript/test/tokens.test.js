// Tokens that are refused, short, late, malformed, or another participant's.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../src/index.js";
import { FakeClock } from "./support/fake-clock.js";
import { DOCTOR, PATIENT, token } from "./support/fake-server.js";
import { statuses, setUp } from "./support/set-up.js";

/** A source that gives another token at each call. */
function source(life) {
  const asked = [];
  const give = (reason) => { asked.push(reason); return token(DOCTOR, `t${asked.length}`, life && { iat: 1_000, exp: 1_000 + life }); };
  return { asked, give };
}

/** A gateway that announces the end of every token at once. */
function alwaysExpiring(server) {
  const { give } = server.WebSocket.prototype;
  server.WebSocket.prototype.give = function (frame) {
    give.call(this, frame);
    if (frame.type === "ready" || frame.type === "authenticated") server.clock.after(1, () => give.call(this, { type: "expiring", expires_at: "2026-11-22T13:00:00Z" }));
  };
}

test("tokens that are all refused are requested less and less often", async () => {
  const { asked, give } = source();
  const { clock, server, chat, open } = await setUp({ chat: { token: give } });
  const conversation = open();
  const inbox = chat.inbox();
  await clock.advance(1_000);
  let areRefused = true;
  Object.defineProperty(server, "refusedTokens", { value: { has: () => areRefused, add() {} } });
  server.cutAll(4401);
  const sent = conversation.send("waits");
  await clock.advance(60_000);
  assert.ok(asked.length >= 3 && asked.length < 12, `${asked.length} calls in a minute`);
  assert.ok(server.requests.length < 60, `${server.requests.length} requests in a minute`);
  assert.deepEqual([conversation.state, inbox.state, statuses(conversation)], ["refused", "refused", ["sending"]]);
  const { length } = asked;
  await clock.advance(600_000);
  assert.ok(asked.length - length < 25, `${asked.length - length} calls in ten minutes`);
  areRefused = false;
  await clock.advance(60_000);
  assert.deepEqual([conversation.state, inbox.state, (await sent).status], ["live", "live", "sent"]);
});

test("a page that gives only refused tokens causes no loop", async () => {
  const { clock, server, chat, open } = await setUp();
  open();
  await clock.advance(1_000);
  let given = 0;
  Object.defineProperty(server, "refusedTokens", { value: { has: () => true } });
  chat.on("unauthorized", () => { given++; queueMicrotask(() => chat.setToken(token(DOCTOR, `given ${given}`.replace(" ", "-")))); });
  server.cutAll(4401);
  const { length } = server.requests;
  await clock.advance(120_000);
  assert.ok(given > 3 && given < 30, `${given} tokens in two minutes`);
  assert.ok(server.requests.length - length < 100, `${server.requests.length - length} requests`);
});

test("setToken with the same token releases waiting work", async () => {
  const { clock, server, chat, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.refusedTokens.add(token(DOCTOR));
  server.cutAll(4401);
  const sent = conversation.send("waits");
  await clock.advance(300_000);
  assert.equal(conversation.state, "refused");
  server.refusedTokens.clear();
  chat.setToken(token(DOCTOR));
  await clock.advance(500);
  assert.deepEqual([conversation.state, (await sent).status], ["live", "sent"]);
});

test("a gateway that refuses all tokens causes no loop", async () => {
  const { asked, give } = source();
  const { clock, server, open } = await setUp({ chat: { token: give } });
  open();
  await clock.advance(1_000);
  const end = clock.now() + 120_000;
  const { length } = server.handshakes;
  while (clock.now() < end) { server.cutAll(4401); await clock.advance(50); }
  assert.ok(server.handshakes.length - length < 40, `${server.handshakes.length - length} handshakes`);
  assert.ok(asked.length < 40, `${asked.length} calls`);
});

test("a gateway that always closes causes no loop", async () => {
  const { clock, server, open } = await setUp();
  open();
  await clock.advance(1_000);
  const end = clock.now() + 120_000;
  const { length } = server.handshakes;
  while (clock.now() < end) { server.cutAll(1001); await clock.advance(50); }
  assert.ok(server.handshakes.length - length < 30, `${server.handshakes.length - length} handshakes`);
});

for (const [life, least, most] of [[4, 300, 620], [60, 20, 42], [300, 6, 15], [3_600, 6, 15], [undefined, 30, 62]]) {
  test(`tokens of ${life ?? "unknown"} seconds are renewed at a measured pace`, async () => {
    const { asked, give } = source(life);
    const { clock, server, chat, open } = await setUp({ chat: { token: give }, prepare: alwaysExpiring });
    open();
    open({ user_id: "nurse7" });
    chat.inbox();
    await clock.advance(600_000);
    assert.ok(asked.length >= least && asked.length <= most, `${asked.length} calls in ten minutes`);
    assert.equal(server.handshakes.length, 3, "on the open sockets");
    assert.ok(asked.slice(1).every((reason) => reason === "expiring"));
  });
}

for (const lead of [0.02, 0.25, 0.5, 0.9]) {
  test(`\`expiring\` at ${lead} of the lifetime renews each token once`, async () => {
    const life = 40;
    const { asked, give } = source(life);
    const { clock, server, open } = await setUp({
      chat: { token: give },
      prepare: (server) => {
        const { give } = server.WebSocket.prototype;
        server.WebSocket.prototype.give = function (frame) {
          give.call(this, frame);
          if (frame.type !== "ready" && frame.type !== "authenticated") return;
          this.ends?.();
          const warn = server.clock.after(life * (1 - lead) * 1_000, () => this.give({ type: "expiring", expires_at: "2026-11-22T13:00:00Z" }));
          const end = server.clock.after(life * 1_000, () => this.cut(4401));
          this.ends = () => { warn(); end(); };
        };
      },
    });
    open();
    await clock.advance(600_000);
    assert.ok(asked.length <= 600 / (life / 4) + 2, `${asked.length} calls`);
    assert.deepEqual([server.handshakes.length, new Set(asked.slice(1))], [1, new Set(["expiring"])]);
  });
}

test("a failed renewal is retried before the token ends", async () => {
  let calls = 0;
  const { clock, server, chat, open } = await setUp({
    chat: { token: () => { calls++; if (calls > 1 && calls < 4) throw new Error("the EHR is away"); return token(DOCTOR, `t${calls}`); } },
  });
  const conversation = open();
  await clock.advance(1_000);
  const warnings = [];
  chat.on("warning", ({ work, code, message }) => warnings.push([work, code, message]));
  server.broadcast({ type: "expiring", expires_at: "2026-11-22T13:00:00Z" });
  await clock.settle();
  assert.deepEqual(conversation.retrying.map(({ work }) => work), ["token"]);
  await clock.advance(20_000);
  assert.deepEqual([calls, server.handshakes.length, server.live[0].token, conversation.retrying], [4, 1, token(DOCTOR, "t4"), []]);
  assert.deepEqual(warnings, Array(2).fill(["token", "token", "the EHR is away"]));
});

test("setToken releases work that a silent token callback blocks", async () => {
  let calls = 0;
  const { clock, server, chat, open } = await setUp({ chat: { token: () => (++calls === 1 ? token(DOCTOR) : new Promise(() => {})) } });
  const conversation = open();
  const inbox = chat.inbox();
  await clock.advance(1_000);
  server.refusedTokens.add(token(DOCTOR));
  server.cutAll(4401);
  const sent = conversation.send("waits");
  await clock.advance(5_000);
  assert.equal(calls, 2);
  chat.setToken(token(DOCTOR, "by-hand"));
  await clock.advance(1_000);
  assert.deepEqual([conversation.state, inbox.state, (await sent).status], ["live", "live", "sent"]);
});

test("a silent token callback is called again, a late token is used", async () => {
  for (const isLate of [false, true]) {
    const give = [];
    const { clock, server, chat, open } = await setUp({ chat: { token: () => (give.push(null) === 1 ? token(DOCTOR) : new Promise((resolve) => { give[give.length - 1] = resolve; })) } });
    const conversation = open();
    await clock.advance(1_000);
    const warnings = [];
    chat.on("warning", (error) => warnings.push(error));
    server.refusedTokens.add(token(DOCTOR));
    server.cutAll(4401);
    await clock.advance(29_000);
    assert.equal(give.length, 2);
    await clock.advance(60_000);
    assert.ok(give.length > 2 && give.length < 6, `${give.length} calls`);
    assert.ok(warnings.some(({ code, message }) => code === "token" && /in time/.test(message)));
    give.at(isLate ? 1 : -1)(token(DOCTOR, "t2"));
    await clock.advance(60_000);
    assert.equal(conversation.state, "live", isLate ? "late" : "again");
  }
});

test("connect rejects without a first token", async () => {
  const clock = new FakeClock();
  const connecting = connect({ url: "http://chat.test", token: () => new Promise(() => {}), WebSocket: class {}, clock });
  let error = null;
  connecting.catch((thrown) => { error = thrown; });
  await clock.advance(29_000);
  assert.equal(error, null);
  await clock.advance(2_000);
  assert.equal(error.code, "token");
  assert.equal(clock.waiting, 0);
});

for (const [name, bad] of [
  ["a line break at its end", `${token(DOCTOR)}\n`], ["a space before it", ` ${token(DOCTOR)}`], ["CR LF in it", token(DOCTOR).replace(".", ".\r\n")],
  ["a comma", `${token(DOCTOR)},x`], ["a scheme", `Bearer ${token(DOCTOR)}`], ["letters of another alphabet", `${token(DOCTOR)}é`],
  ["a NUL", `${token(DOCTOR)}\0`], ["nothing in it", ""], ["no text", undefined], ["a number", 5], ["an object", { token: token(DOCTOR) }],
]) {
  test(`a token with ${name} is rejected and not repeated`, async () => {
    const isClear = (error) => error.name === "ChatError" && error.code === "token" && error.message.length > 20 && !error.message.includes(token(DOCTOR).slice(4));
    await assert.rejects(connect({ url: "http://chat.test", token: bad, WebSocket: class {} }), isClear);
    await assert.rejects(connect({ url: "http://chat.test", token: () => bad, WebSocket: class {} }), isClear);
    let fresh = bad;
    const { clock, server, chat, open } = await setUp({ chat: { token: (reason) => (reason === "first" ? token(DOCTOR) : fresh) } });
    assert.throws(() => chat.setToken(bad), isClear);
    const conversation = open();
    await clock.advance(1_000);
    const warnings = [];
    chat.on("warning", (error) => warnings.push(error));
    server.refusedTokens.add(token(DOCTOR));
    server.cutAll(4401);
    await clock.advance(2_000);
    assert.ok(warnings.length > 0 && warnings.some(isClear));
    fresh = token(DOCTOR, "t2");
    await clock.advance(30_000);
    assert.equal(conversation.state, "live");
  });
}

test("another participant's token is rejected", async () => {
  const { clock, server, chat, open } = await setUp({ chat: { token: (reason) => token(reason === "first" ? DOCTOR : PATIENT) } });
  assert.throws(() => chat.setToken(token(PATIENT)), { code: "token", message: /another participant/ });
  open();
  await clock.advance(1_000);
  server.broadcast({ type: "expiring", expires_at: "2026-11-22T13:00:00Z" });
  await clock.advance(10_000);
  assert.ok([...server.handshakes, ...server.requests].every((one) => one.token === token(DOCTOR)));
  assert.equal(chat.retrying[0].work, "token");
});

/** A gateway that drops the first tokens on an open socket. `auths` has the time of each. */
function dropTokens(times) {
  const auths = [];
  let left = times;
  const prepare = (server) => {
    const { send } = server.WebSocket.prototype;
    server.WebSocket.prototype.send = function (data) {
      const frame = JSON.parse(data);
      if (frame.type !== "auth") return send.call(this, data);
      auths.push({ at: server.clock.now(), token: frame.token });
      if (left-- > 0) this.give({ type: "error", code: "rate_limited", detail: "too many tokens: this one was dropped" });
      else send.call(this, data);
    };
  };
  return { auths, prepare };
}

test("a rate-limited token is sent again after growing delays", async () => {
  const { auths, prepare } = dropTokens(5);
  const { clock, server, chat, open } = await setUp({ prepare });
  const conversation = open();
  await clock.advance(1_000);
  chat.setToken(token(DOCTOR, "t2"));
  await clock.advance(500);
  assert.deepEqual([auths.length, conversation.retrying.map(({ work, error }) => [work, error.code])], [1, [["token", "rate_limited"]]]);
  await clock.advance(120_000);
  const pauses = auths.slice(1).map(({ at }, index) => at - auths[index].at);
  assert.deepEqual(pauses, [1_500, 2_000, 3_000, 5_000, 9_000]);
  assert.deepEqual(server.live.map((socket) => socket.token), [token(DOCTOR, "t2")]);
  assert.deepEqual([server.handshakes.length, auths.length, conversation.retrying], [1, 6, []]);
});

test("a newer token replaces one that is never accepted", async () => {
  const { auths, prepare } = dropTokens(Infinity);
  const { clock, server, chat, open } = await setUp({ prepare });
  open();
  await clock.advance(1_000);
  chat.setToken(token(DOCTOR, "t2"));
  await clock.advance(600_000);
  assert.ok(auths.length > 20 && auths.length < 60, `${auths.length} in ten minutes`);
  const { length } = auths;
  chat.setToken(token(DOCTOR, "t3"));
  await clock.advance(120_000);
  assert.ok(auths.length > length + 2, `${auths.length - length} of the newer one`);
  assert.deepEqual(new Set(auths.slice(length).map((auth) => auth.token)), new Set([token(DOCTOR, "t3")]));
  chat.close();
  const closed = auths.length;
  await clock.advance(120_000);
  assert.deepEqual([auths.length, server.live.length], [closed, 0]);
});

test("other rate-limited frames do not delay the token", async () => {
  const { auths, prepare } = dropTokens(1);
  const { clock, server, chat, open } = await setUp({ prepare });
  open();
  await clock.advance(1_000);
  chat.setToken(token(DOCTOR, "t2"));
  for (let i = 0; i < 15; i++) {
    server.broadcast({ type: "error", code: "rate_limited", detail: "too many frames: this one was dropped" });
    await clock.advance(100);
  }
  assert.deepEqual([auths.length, server.live[0].token], [2, token(DOCTOR, "t2")]);
});

test("an accepted token is not sent twice", async () => {
  const { clock, server, chat, open } = await setUp();
  const { send } = server.WebSocket.prototype;
  server.WebSocket.prototype.send = function (data) {
    if (JSON.parse(data).type === "auth") this.give({ type: "error", code: "rate_limited", detail: "too many frames: this one was dropped" });
    send.call(this, data);
  };
  const conversation = open();
  await clock.advance(1_000);
  chat.setToken(token(DOCTOR, "t2"));
  await clock.advance(60_000);
  assert.equal(server.live[0].sent.filter(({ type }) => type === "auth").length, 1);
  assert.deepEqual([server.live[0].token, conversation.retrying], [token(DOCTOR, "t2"), []]);
  server.cutAll();
  await clock.advance(1_000);
  assert.equal(server.handshakes[1].token, token(DOCTOR, "t2"));
});

test("a token given during a handshake is sent on the open socket", async () => {
  const { clock, server, chat, open } = await setUp();
  let answer;
  server.handshake = (socket) => { const connect = socket.readyState; answer = () => connect; return true; };
  open();
  chat.setToken(token(DOCTOR, "t2"));
  await clock.advance(1_000);
  assert.ok(answer);
  assert.deepEqual(server.live.map((socket) => socket.token), [token(DOCTOR, "t2")]);
});
