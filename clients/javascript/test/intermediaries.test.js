// Answers that are not the chat server's, and refusals of its own that pass.

import assert from "node:assert/strict";
import { test } from "node:test";

import { DOCTOR, PAGES, PATIENT, problem, token } from "./server.js";
import { statuses, texts, world } from "./world.js";

const STATUSES = [200, 204, 301, 400, 401, 403, 404, 405, 409, 410, 413, 418, 422, 451, 500, 502];

for (const [index, page] of PAGES.entries()) {
  test(`page ${index} of something in between, with any status, ends nothing: all is made up for when it is gone`, async () => {
    for (const status of STATUSES) {
      const asked = [];
      const { clock, server, chat, open } = await world({
        prepare: (server) => server.write(PATIENT, "was there"), chat: { token: (reason) => { asked.push(reason); return token(DOCTOR); } },
      });
      let isBlocked = true;
      server.answer = () => (isBlocked ? page(status) : null);
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
      assert.ok(server.messages[0].delivered_at, "and told to be delivered");
      assert.ok(server.requests.length < 120, `${server.requests.length} requests`);
      if (status !== 401) assert.deepEqual(asked, ["first"]);
      chat.close();
    }
  });
}

test("one page in between, of any request of a session, is not noticed for long", async () => {
  for (const path of ["/chat/history", "/chat/send", "/chat/read", "/chat/delivered", "/chat/conversations", "/chat/presence"]) {
    const { clock, server, chat, open } = await world({ prepare: (server) => server.write(PATIENT, "one") });
    let times = 1;
    server.answer = (request) => (request.path === path && times-- > 0 ? PAGES[0](404) : null);
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

test("something in between that checks tokens itself gets a fresh one, too", async () => {
  const asked = [];
  const { clock, server, open } = await world({
    chat: { token: (reason) => { asked.push(reason); return token(DOCTOR, `t${asked.length}`); } },
  });
  server.answer = (request) => (request.token === token(DOCTOR, "t1") ? PAGES[1](401) : null);
  server.handshake = (socket) => socket.token !== token(DOCTOR, "t1");
  const conversation = open();
  await clock.advance(30_000);
  assert.equal(conversation.state, "live");
  assert.deepEqual(asked, ["first", "refused"]);
});

test("a 401 of the server that passes: what waits goes on with the same token, and nobody has to do anything", async () => {
  for (const source of [token(DOCTOR), () => token(DOCTOR)]) {
    const { clock, server, chat, open } = await world({ chat: { token: source } });
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
    assert.ok(unauthorized > before, "told again when it is refused again");
  }
});

for (const status of [400, 403, 404, 422]) {
  test(`a ${status} of the server that passes: the conversation is refused, and is not when it is asked again`, async () => {
    const { clock, server, open } = await world({ prepare: (server) => server.write(PATIENT, "was there") });
    let isBlocked = true;
    server.answer = ({ path }) => (isBlocked && path === "/chat/history" ? problem(status, "not now") : null);
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

test("what the server refuses for good is asked for ever more rarely, however busy the rest of the chat is", async () => {
  const { clock, server, chat, open } = await world();
  server.answer = ({ path, query }) => (path === "/chat/history" && query.peer_user_id ? problem(403, "not yours") : null);
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

test("what was refused is asked for at once when something else that failed succeeds", async () => {
  const { clock, server, open } = await world();
  const busy = open();
  await clock.advance(1_000);
  let isBlocked = true;
  server.answer = ({ path }) => (!isBlocked ? null : path === "/chat/send" ? "lost" : problem(403, "the proxy was set up wrongly"));
  server.handshake = () => !isBlocked;
  const sent = busy.send("waits");
  const refused = open({ user_id: "nurse7" });
  await clock.advance(300_000);
  assert.equal(refused.state, "refused");
  const asked = () => server.requests.filter(({ query }) => query.peer_user_id).length;
  for (let before = asked(); asked() === before;) await clock.advance(100); // it has just been refused again, for two minutes
  await clock.advance(3_000);
  isBlocked = false;
  let arrived = false;
  sent.then(() => { arrived = true; });
  while (!arrived) await clock.advance(100);
  await clock.advance(2_000);
  assert.equal(refused.state, "live");
});

test("one who is sent away for good (4403) is asked about again after a quarter of an hour, and with another token at once", async () => {
  for (const hasToken of [false, true]) {
    const { clock, server, chat, open } = await world();
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

test("a message that a firewall will not let through can be taken back, and those behind it go on", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  server.answer = ({ body }) => (body?.content === "DROP TABLE" ? PAGES[0](403) : null);
  conversation.send("DROP TABLE");
  conversation.send("behind it");
  await clock.advance(60_000);
  assert.deepEqual(statuses(conversation), ["sending", "sending"]);
  assert.deepEqual(conversation.retrying.map(({ work, error }) => [work, error.status, error.code]), [["send", 403, "foreign"]]);
  assert.equal(conversation.discard(conversation.messages[0]), true);
  await clock.settle();
  assert.deepEqual([texts(conversation), statuses(conversation), conversation.retrying], [["behind it"], ["sent"], []]);

  server.answer = ({ body }) => (body?.content === "who knows" ? "unheard" : null);
  server.deafen();
  conversation.send("who knows");
  await clock.advance(100);
  assert.equal(conversation.discard(conversation.messages[1]), false, "the server may have it");
});

for (const [name, first] of [["a timeout", "silent"], ["a lost answer", "unheard"], ["a page with status 502", 502], ["a page with status 408", 408],
  ["a page with status 499", 499], ["a page with status 200", 200], ["a 503 of the server", 503]]) {
  test(`a message that may have arrived (${name}) cannot be taken back, though a firewall stops every later try`, async () => {
    const { clock, server, open } = await world();
    const conversation = open();
    await clock.advance(1_000);
    server.handshake = () => false; // no socket tells of it
    server.cutAll();
    let tries = 0;
    server.answer = (request) => {
      if (request.path === "/chat/history") return "lost";
      if (request.path !== "/chat/send") return null;
      if (tries++ > 0) return PAGES[0](403);
      if (first !== "unheard") server.write(DOCTOR, request.body.content, { client_message_id: request.body.client_message_id });
      return typeof first === "string" ? first : name.includes("page") ? PAGES[0](first) : problem(first, "who knows");
    };
    const sent = conversation.send("Hello");
    await clock.advance(60_000);
    assert.ok(tries > 2, `${tries} tries`);
    assert.deepEqual([server.messages.length, conversation.retrying.find(({ work }) => work === "send").error.status], [1, 403]);
    assert.equal(conversation.discard(conversation.messages[0]), false, "the other side has it");
    assert.deepEqual(statuses(conversation), ["sending"]);
    server.answer = () => null;
    server.handshake = () => true;
    await clock.advance(30_000);
    assert.deepEqual([(await sent).status, texts(conversation), server.messages.length], ["sent", ["Hello"], 1]);
  });
}

test("a message that was refused at every try, by whomever, can be taken back while it waits", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  const refusals = [problem(429, "later"), PAGES[0](403), PAGES[3](404), problem(429, "later")];
  server.answer = ({ path }) => (path === "/chat/send" ? refusals.shift() ?? problem(429, "later") : null);
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

test("a message whose try is under way cannot be taken back, though all before were stopped", async () => {
  const { clock, server, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  let tries = 0;
  server.answer = ({ path }) => (path !== "/chat/send" ? null : tries++ < 2 ? PAGES[0](403) : "silent");
  conversation.send("Hello");
  while (tries < 3) await clock.advance(100);
  assert.equal(conversation.discard(conversation.messages[0]), false);
  assert.deepEqual(statuses(conversation), ["sending"]);
});

test("HTTP is away while the socket works, and the reverse: each is said, and each comes back", async () => {
  const { clock, server, chat, open } = await world();
  const conversation = open();
  await clock.advance(1_000);
  const warnings = [];
  chat.on("warning", ({ work }) => warnings.push(work));
  server.answer = () => "lost";
  const sent = conversation.send("waits");
  server.write(PATIENT, "heard");
  await clock.advance(60_000);
  assert.deepEqual([conversation.state, texts(conversation), warnings.includes("send"), warnings.includes("connection")], ["live", ["heard", "waits"], true, false]);
  assert.deepEqual(chat.retrying.map(({ work, peer }) => `${work} ${peer.contact_id}`).sort(), ["presence pat456", "send pat456"]);
  server.answer = () => null;
  await clock.advance(15_000);
  assert.equal((await sent).seq, 2);
  assert.deepEqual(chat.retrying, []);

  server.handshake = () => false;
  server.cutAll();
  server.write(PATIENT, "polled");
  await clock.advance(60_000);
  assert.deepEqual([conversation.state, texts(conversation).at(-1)], ["reconnecting", "polled"]);
  assert.deepEqual(chat.retrying.map(({ work }) => work), ["connection"]);
  assert.match(conversation.error.message, /WebSocket/);
  server.handshake = () => true;
  await clock.advance(30_000);
  assert.deepEqual([conversation.state, conversation.error, chat.retrying], ["live", null, []]);
});
