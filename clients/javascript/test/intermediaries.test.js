// Responses of intermediaries, and refusals of the server that pass.

import assert from "node:assert/strict";
import { test } from "node:test";

import { DOCTOR, PAGES, PATIENT, problem, token } from "./support/fake-server.js";
import { statuses, texts, setUp } from "./support/set-up.js";

const STATUSES = [200, 204, 301, 400, 401, 403, 404, 405, 409, 410, 413, 418, 422, 451, 500, 502];

for (const [index, page] of PAGES.entries()) {
  test(`page ${index} of an intermediary ends nothing, with any status`, async () => {
    for (const status of STATUSES) {
      const asked = [];
      const { clock, server, chat, open } = await setUp({
        prepare: (server) => server.write(PATIENT, "was there"), chat: { token: (reason) => { asked.push(reason); return token(DOCTOR); } },
      });
      let isBlocked = true;
      server.intercept = () => (isBlocked ? page(status) : null);
      server.handshake = () => !isBlocked;
      const states = [];
      const warnings = [];
      const wrong = [];
      chat.on("warning", (error) => {
        warnings.push(error.work);
        if (!error.isForeign || error.status !== status || /blocked|Oops|not for you/i.test(error.message)) wrong.push(error);
      });
      chat.on("unauthorized", (error) => wrong.push(error));
      const inbox = chat.inbox();
      const conversation = open();
      conversation.on("state", (state) => states.push(state));
      const sent = conversation.send("Hello");
      await clock.advance(30_000);
      assert.deepEqual([conversation.state, statuses(conversation), inbox.state], ["connecting", ["sending"], "connecting"], String(status));
      for (const work of ["connection", "history", "send", "inbox"]) {
        assert.ok(warnings.includes(work), work);
        assert.ok(chat.retrying.some((one) => one.work === work), work);
      }
      isBlocked = false;
      await clock.advance(20_000);
      assert.equal((await sent).status, "sent");
      assert.deepEqual([conversation.state, texts(conversation), inbox.state, inbox.rows.length], ["live", ["was there", "Hello"], "live", 1]);
      assert.deepEqual(chat.retrying, []);
      assert.ok(!states.includes("refused"), states.join());
      assert.deepEqual(wrong, []);
      assert.ok(server.messages[0].delivered_at, "and marked as delivered");
      assert.ok(server.requests.length < 120, `${server.requests.length} requests`);
      if (status !== 401) assert.deepEqual(asked, ["first"]);
      chat.close();
    }
  });
}

test("one intermediary page in place of any response is overcome", async () => {
  for (const path of ["/chat/history", "/chat/send", "/chat/read", "/chat/delivered", "/chat/conversations", "/chat/presence"]) {
    const { clock, server, chat, open } = await setUp({ prepare: (server) => server.write(PATIENT, "one") });
    let times = 1;
    server.intercept = (request) => (request.path === path && times-- > 0 ? PAGES[0](404) : null);
    const inbox = chat.inbox();
    const conversation = open();
    await clock.advance(3_000);
    const sent = conversation.send("two");
    const read = conversation.markRead();
    await clock.advance(3_000);
    await Promise.all([sent, read]);
    assert.deepEqual([conversation.state, inbox.state, statuses(conversation), conversation.presence?.online], ["live", "live", ["read", "sent"], true], path);
    chat.close();
  }
});

test("an intermediary that checks tokens gets a fresh one", async () => {
  const asked = [];
  const { clock, server, open } = await setUp({
    chat: { token: (reason) => { asked.push(reason); return token(DOCTOR, `t${asked.length}`); } },
  });
  server.intercept = (request) => (request.token === token(DOCTOR, "t1") ? PAGES[1](401) : null);
  server.handshake = (socket) => socket.token !== token(DOCTOR, "t1");
  const conversation = open();
  await clock.advance(30_000);
  assert.equal(conversation.state, "live");
  assert.deepEqual(asked, ["first", "refused"]);
});

test("work continues with the same token after a 401 that passes", async () => {
  for (const source of [token(DOCTOR), () => token(DOCTOR)]) {
    const { clock, server, chat, open } = await setUp({ chat: { token: source } });
    const conversation = open();
    const inbox = chat.inbox();
    await clock.advance(1_000);
    let unauthorized = 0;
    chat.on("unauthorized", () => unauthorized++);
    server.refusedTokens.add(token(DOCTOR));
    server.cutAll(4401);
    const sent = conversation.send("meanwhile");
    await clock.advance(20_000);
    assert.deepEqual([conversation.state, conversation.error.status, statuses(conversation)], ["refused", 401, ["sending"]]);
    assert.ok(unauthorized >= 1);
    server.refusedTokens.clear();
    await clock.advance(30_000);
    assert.deepEqual([conversation.state, inbox.state, (await sent).status], ["live", "live", "sent"]);
    const before = unauthorized;
    server.refusedTokens.add(token(DOCTOR));
    server.cutAll(4401);
    await clock.advance(5_000);
    assert.ok(unauthorized > before, "emitted again when it is refused again");
  }
});

for (const status of [400, 403, 404, 422]) {
  test(`a conversation refused with ${status} recovers by itself`, async () => {
    const { clock, server, open } = await setUp({ prepare: (server) => server.write(PATIENT, "was there") });
    let isBlocked = true;
    server.intercept = ({ path }) => (isBlocked && path === "/chat/history" ? problem(status, "not now") : null);
    server.handshake = () => !isBlocked;
    const conversation = open();
    const errors = [];
    conversation.on("error", (error) => errors.push(error.status));
    await clock.advance(20_000);
    assert.deepEqual([conversation.state, conversation.error.message, errors], ["refused", "not now", [status]]);
    isBlocked = false;
    await clock.advance(40_000);
    assert.deepEqual([conversation.state, texts(conversation)], ["live", ["was there"]]);
  });
}

test("a lasting refusal is retried less often in a busy chat", async () => {
  const { clock, server, chat, open } = await setUp();
  server.intercept = ({ path, query }) => (path === "/chat/history" && query.peer_user_id ? problem(403, "not yours") : null);
  server.handshake = ({ query }) => !query.peer_user_id;
  const busy = open();
  const refused = open({ user_id: "nurse7" });
  await clock.advance(60_000);
  assert.equal(refused.state, "refused");
  const { length } = server.requests;
  for (let i = 0; i < 600; i++) { busy.send(`text ${i}`); await clock.advance(1_000); }
  const again = server.requests.slice(length).filter(({ query }) => query.peer_user_id).length;
  assert.ok(again >= 20 && again < 120, `${again} in ten minutes`);
  assert.deepEqual([busy.state, refused.state], ["live", "refused"]);
  assert.deepEqual(chat.retrying.map(({ work, peer }) => `${work} ${peer.user_id}`).sort(), ["connection nurse7", "history nurse7"]);
});

test("a refusal is retried when other failed work succeeds", async () => {
  const { clock, server, open } = await setUp();
  const busy = open();
  await clock.advance(1_000);
  let isBlocked = true;
  server.intercept = ({ path }) => (!isBlocked ? null : path === "/chat/send" ? "request-lost" : problem(403, "the proxy was set up wrongly"));
  server.handshake = () => !isBlocked;
  const sent = busy.send("waits");
  const refused = open({ user_id: "nurse7" });
  await clock.advance(300_000);
  assert.equal(refused.state, "refused");
  const asked = () => server.requests.filter(({ query }) => query.peer_user_id).length;
  for (let before = asked(); asked() === before;) await clock.advance(100); // until it is refused again and waits for two minutes
  await clock.advance(3_000);
  isBlocked = false;
  let arrived = false;
  sent.then(() => { arrived = true; });
  while (!arrived) await clock.advance(100);
  await clock.advance(2_000);
  assert.equal(refused.state, "live");
});

test("4403 is retried after 15 min, or at once with a new token", async () => {
  for (const hasToken of [false, true]) {
    const { clock, server, chat, open } = await setUp();
    const conversation = open();
    await clock.advance(1_000);
    server.cutAll(4403);
    await clock.advance(600_000);
    assert.deepEqual([conversation.state, server.handshakes.length], ["refused", 1]);
    if (hasToken) chat.setToken(token(DOCTOR, "2"));
    await clock.advance(hasToken ? 1_000 : 330_000);
    assert.deepEqual([conversation.state, server.handshakes.length], ["live", 2]);
  }
});

test("a message that a firewall blocks can be discarded", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  server.intercept = ({ body }) => (body?.content === "DROP TABLE" ? PAGES[0](403) : null);
  conversation.send("DROP TABLE");
  conversation.send("behind it");
  await clock.advance(60_000);
  assert.deepEqual(statuses(conversation), ["sending", "sending"]);
  assert.deepEqual(conversation.retrying.map(({ work, error }) => [work, error.status, error.code]), [["send", 403, "foreign"]]);
  assert.equal(conversation.discard(conversation.messages[0]), true);
  await clock.settle();
  assert.deepEqual([texts(conversation), statuses(conversation), conversation.retrying], [["behind it"], ["sent"], []]);

  server.intercept = ({ body }) => (body?.content === "who knows" ? "response-lost" : null);
  server.pauseDelivery();
  conversation.send("who knows");
  await clock.advance(100);
  assert.equal(conversation.discard(conversation.messages[1]), false, "the server may have it");
});

for (const [name, first] of [["a timeout", "no-response"], ["a lost answer", "response-lost"], ["a page with status 502", 502], ["a page with status 408", 408],
  ["a page with status 499", 499], ["a page with status 200", 200], ["a 503 of the server", 503]]) {
  test(`a message cannot be discarded after ${name}`, async () => {
    const { clock, server, open } = await setUp();
    const conversation = open();
    await clock.advance(1_000);
    server.handshake = () => false; // no frame confirms it
    server.cutAll();
    let tries = 0;
    server.intercept = (request) => {
      if (request.path === "/chat/history") return "request-lost";
      if (request.path !== "/chat/send") return null;
      if (tries++ > 0) return PAGES[0](403);
      if (first !== "response-lost") server.write(DOCTOR, request.body.content, { client_message_id: request.body.client_message_id });
      return typeof first === "string" ? first : name.includes("page") ? PAGES[0](first) : problem(first, "who knows");
    };
    const sent = conversation.send("Hello");
    await clock.advance(60_000);
    assert.ok(tries > 2, `${tries} tries`);
    assert.deepEqual([server.messages.length, conversation.retrying.find(({ work }) => work === "send").error.status], [1, 403]);
    assert.equal(conversation.discard(conversation.messages[0]), false, "the other side has it");
    assert.deepEqual(statuses(conversation), ["sending"]);
    server.intercept = () => null;
    server.handshake = () => true;
    await clock.advance(30_000);
    assert.deepEqual([(await sent).status, texts(conversation), server.messages.length], ["sent", ["Hello"], 1]);
  });
}

test("a message refused at every attempt can be discarded", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const refusals = [problem(429, "later"), PAGES[0](403), PAGES[3](404), problem(429, "later")];
  server.intercept = ({ path }) => (path === "/chat/send" ? refusals.shift() ?? problem(429, "later") : null);
  const sent = conversation.send("Hello");
  sent.catch(() => {});
  await clock.advance(60_000);
  assert.deepEqual([refusals.length, conversation.retrying[0].error.isForeign], [0, false]);
  assert.equal(conversation.discard(conversation.messages[0]), true);
  await assert.rejects(sent, { code: "discarded" });
  const { length } = server.requests;
  await clock.advance(60_000);
  assert.deepEqual([server.requests.slice(length).filter(({ path }) => path === "/chat/send"), server.messages, conversation.retrying], [[], [], []]);
});

test("a message cannot be discarded during an attempt", async () => {
  const { clock, server, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  let tries = 0;
  server.intercept = ({ path }) => (path !== "/chat/send" ? null : tries++ < 2 ? PAGES[0](403) : "no-response");
  conversation.send("Hello");
  while (tries < 3) await clock.advance(100);
  assert.equal(conversation.discard(conversation.messages[0]), false);
  assert.deepEqual(statuses(conversation), ["sending"]);
});

test("HTTP and sockets fail and recover independently", async () => {
  const { clock, server, chat, open } = await setUp();
  const conversation = open();
  await clock.advance(1_000);
  const warnings = [];
  chat.on("warning", ({ work }) => warnings.push(work));
  server.intercept = () => "request-lost";
  const sent = conversation.send("waits");
  server.write(PATIENT, "received");
  await clock.advance(60_000);
  assert.deepEqual([conversation.state, texts(conversation), warnings.includes("send"), warnings.includes("connection")], ["live", ["received", "waits"], true, false]);
  assert.deepEqual(chat.retrying.map(({ work, peer }) => `${work} ${peer.contact_id}`).sort(), ["presence pat456", "send pat456"]);
  server.intercept = () => null;
  await clock.advance(15_000);
  assert.equal((await sent).seq, 2);
  assert.deepEqual(chat.retrying, []);

  server.handshake = () => false;
  server.cutAll();
  server.write(PATIENT, "polled");
  await clock.advance(60_000);
  assert.deepEqual([conversation.state, texts(conversation).at(-1)], ["blocked", "polled"]);
  assert.deepEqual(chat.retrying.map(({ work }) => work), ["connection"]);
  assert.match(conversation.error.message, /WebSocket/);
  server.handshake = () => true;
  await clock.advance(30_000);
  assert.deepEqual([conversation.state, conversation.error, chat.retrying], ["live", null, []]);
});
