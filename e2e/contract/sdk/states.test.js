// The states of the connection, and the messages of all conversations, against the real system.

import assert from "node:assert/strict";
import { test } from "node:test";

import { client, fastClock, intermediary, line, live, pair, until } from "./system.js";

const count = (length) => Array.from({ length }, (_, index) => index + 1);

test("a frozen connection is detected within 35 s of its last frame", async (t) => {
  const { doctor, patient } = pair();
  const between = await intermediary(t);
  const clock = fastClock(6);
  let lastFrameAt = 0;
  let seePong;
  const pong = new Promise((resolve) => { seePong = resolve; });
  class WatchedSocket extends WebSocket {
    constructor(...all) {
      super(...all);
      this.addEventListener("message", ({ data }) => {
        lastFrameAt = clock.elapsed();
        if (JSON.parse(data).type === "pong") seePong();
      });
    }
  }
  const chat = await client(t, doctor, { url: between.url, clock, WebSocket: WatchedSocket });
  const mine = chat.conversation(patient);
  await live(mine);
  await pong; // the worst time: a check has just ended
  between.freezeSockets();
  const frozenAt = lastFrameAt;
  await until(mine, "noticed", () => mine.state === "reconnecting");
  const silentMs = clock.elapsed() - frozenAt;
  assert.ok(silentMs >= 34_900 && silentMs < 44_000, `${silentMs} ms, of which a slow machine may have added some`);
  await live(mine);
});

test("without the network the state is `offline`, and messages wait", async (t) => {
  const { doctor, patient } = pair();
  const cable = await line(t);
  const chat = await client(t, doctor, { url: cable.url });
  const mine = chat.conversation(patient);
  await live(mine);
  cable.cut();
  await until(mine, "offline", () => mine.state === "offline");
  assert.equal(mine.error.code, "network");
  const sent = mine.send("waits");
  assert.equal(chat.pending, 1);
  cable.mend();
  chat.reconnect();
  assert.equal((await sent).seq, 1);
  await live(mine);
});

test("a network without WebSockets is `blocked`, and messages flow all the same", async (t) => {
  const { doctor, patient } = pair();
  const between = await intermediary(t);
  between.sockets = false;
  const mine = (await client(t, doctor, { url: between.url, clock: fastClock(6) })).conversation(patient);
  await until(mine, "blocked", () => mine.state === "blocked");
  assert.equal(mine.error.code, "websocket_blocked");
  const theirs = (await client(t, patient)).conversation(doctor);
  await theirs.send("polled");
  await until(mine, "polled", () => mine.messages.length === 1);
  assert.equal((await mine.send("sent")).seq, 2);
  between.sockets = true;
  await live(mine);
});

test("messages of all conversations arrive once each, in order", async (t) => {
  const pairs = [pair(), pair()];
  const { doctor } = pairs[0];
  const chat = await client(t, doctor);
  const received = [];
  let seeAll;
  const all = new Promise((resolve) => { seeAll = resolve; });
  chat.on("message", ({ peer, conversation_id, message }) => {
    received.push(`${peer.contact_id} ${message.seq} ${message.content} ${conversation_id !== ""}`);
    if (received.length === 80) seeAll();
  });
  const inbox = chat.inbox();
  await live(inbox);
  const patients = pairs.map(({ patient }) => patient);
  const open = chat.conversation(patients[0]);
  await live(open);
  await open.send("written here");
  const writers = await Promise.all(patients.map((patient) => client(t, patient)));
  await Promise.all(writers.flatMap((writer) => count(40).map((n) => writer.conversation(doctor).send(`text ${n}`))));
  await all;
  assert.deepEqual(received.filter((one) => one.startsWith(patients[0].contact_id)), count(40).map((n) => `${patients[0].contact_id} ${n + 1} text ${n} true`));
  assert.deepEqual(received.filter((one) => one.startsWith(patients[1].contact_id)), count(40).map((n) => `${patients[1].contact_id} ${n} text ${n} true`));
});
