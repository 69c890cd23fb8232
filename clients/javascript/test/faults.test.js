// Random faults, from a seed: sockets are cut, frames lost with the log, answers lost, the server away. Whatever happens, no
// screen ever shows a message twice or out of order, a tick that goes back, and in the end everything is there.

import assert from "node:assert/strict";
import { test } from "node:test";

import { seeded } from "./clock.js";
import { DOCTOR, PATIENT } from "./server.js";
import { world } from "./world.js";

/** As a relay that died: what is written meanwhile reaches no socket, and no cursor finds it. */
function loseFrames(server, count) {
  const hear = server.deafen();
  for (let i = 1; i <= count; i++) server.write(i % 3 === 0 ? DOCTOR : PATIENT, `unheard ${i}`);
  hear();
  server.log.length = 0;
  server.cutAll(1006);
}

const RANK = { failed: -1, sending: 0, sent: 1, delivered: 2, read: 3 };

for (let seed = 1; seed <= 40; seed++) {
  test(`random faults, seed ${seed}`, async () => {
    const random = seeded(seed);
    const { clock, server, chat, open, shown } = await world({ chat: { random } });
    const conversation = open();
    const announced = [];
    conversation.on("message", ({ id }) => announced.push(id));
    const written = [];
    let trouble = 0;
    await clock.advance(random() * 1_000);
    loseFrames(server, Math.floor(random() * 3) * 30); // before anything else was there
    server.answer = () => (random() < trouble ? (["lost", "unheard", { status: 503, body: { detail: "away" } }, { status: 429, body: {}, headers: { "Retry-After": "1" } }])[Math.floor(random() * 4)] : null);
    server.handshake = () => random() >= trouble;
    for (let step = 0; step < 150; step++) {
      const dice = random();
      if (dice < 0.25) { written.push(`mine ${step}`); conversation.send(`mine ${step}`); }
      else if (dice < 0.45) server.write(PATIENT, `theirs ${step}`);
      else if (dice < 0.5) server.write(DOCTOR, `other window ${step}`);
      else if (dice < 0.6) server.receipt(random() < 0.5 ? "delivered" : "read", server.messages.filter((message) => message.sender_user_id && random() < 0.5).map(({ id }) => id));
      else if (dice < 0.7) server.cutAll([1001, 1006, 4408][Math.floor(random() * 3)]);
      else if (dice < 0.73) loseFrames(server, Math.floor(random() * 70));
      else if (dice < 0.76) { server.ephemeral({ type: "degraded" }); }
      else if (dice < 0.8) { server.ephemeral({ type: "resync" }); server.ephemeral({ type: "recovered" }); }
      else if (dice < 0.84) trouble = trouble > 0 ? 0 : 0.6;
      else if (dice < 0.88) conversation.markRead();
      else if (server.log.length > 0 && dice < 0.92) for (const event of server.log.slice(-3)) server.ephemeral(event); // again
      else await clock.advance(random() * 3_000);
      await clock.settle();
    }
    trouble = 0;
    server.ephemeral({ type: "resync" });
    server.ephemeral({ type: "recovered" });
    await clock.advance(120_000);

    assert.equal(conversation.state, "live");
    assert.equal(chat.pending, 0);
    assert.deepEqual(conversation.messages.map(({ id }) => id), server.messages.map(({ id }) => id), "nothing lost, everything in order");
    assert.deepEqual(conversation.messages.map(({ read_at }) => read_at), server.messages.map(({ read_at }) => read_at), "receipts");
    const mine = server.messages.filter(({ content }) => content.startsWith("mine ")).map(({ content }) => content);
    assert.deepEqual(mine, written, "sent once each, in the order they were written");
    assert.equal(new Set(announced).size, announced.length, "announced once");
    const best = new Map();
    for (const screen of shown) {
      assert.equal(new Set(screen.map(({ key }) => key)).size, screen.length, "doubled");
      const seqs = screen.map(({ seq }) => seq ?? Infinity);
      assert.deepEqual(seqs, [...seqs].sort((a, b) => a - b), "out of order");
      for (const { key, status } of screen) {
        assert.ok(RANK[status] >= (best.get(key) ?? -1), `tick went back to ${status}`);
        best.set(key, RANK[status]);
      }
    }
  });
}
