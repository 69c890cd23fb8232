// Random faults from a seed:
// - cut sockets, lost frames, lost responses, an unreachable server, a slow line, HTTP without sockets and the reverse
// - pages of intermediaries, tokens that are refused, short or missing
// - clocks that are set, sleeping machines
// No screen ever shows a message twice or out of order, a tick that goes back, or a failure that the server did not cause. No request
// loops. In the end everything has arrived without a reload of the page.
//
// Time is virtual. Each test's name has its seed: `SEED=17 node --test clients/javascript/test/faults.test.js` runs one alone.

import assert from "node:assert/strict";
import { test } from "node:test";

import { seeded } from "./support/fake-clock.js";
import { DOCTOR, PAGES, PATIENT, problem, token } from "./support/fake-server.js";
import { setUp } from "./support/set-up.js";

const SEEDS = process.env.SEED ? [Number(process.env.SEED)] : Array.from({ length: 60 }, (_, index) => index + 1);

/** As when a relay dies: new messages reach no socket, and no cursor finds them. */
function loseFrames(server, count) {
  const resume = server.pauseDelivery();
  for (let i = 1; i <= count; i++) server.write(i % 3 === 0 ? DOCTOR : PATIENT, `lost ${i}`);
  resume();
  server.log.length = 0;
  server.cutAll(1006);
}

const RANK = { failed: -1, sending: 0, sent: 1, delivered: 2, read: 3 };

/** The tokens of a page's callback, and how server and gateway treat them. */
class Issuer {
  issued = 0;
  calls = 0;
  hangs = false;
  fails = false;
  refusesAll = false;
  life = 3_600;
  #clock;
  #refused = new Set();
  #ends = new Map();

  constructor(clock) {
    this.#clock = clock;
  }

  give = () => {
    this.calls++;
    if (this.hangs) return new Promise(() => {});
    if (this.fails) throw new Error("the EHR is away");
    return this.#issue();
  };

  #issue() {
    const issued = token(DOCTOR, `t${++this.issued}`, { iat: 1_000, exp: 1_000 + this.life });
    this.#ends.set(issued, this.#clock.elapsed() + this.life * 1_000);
    return issued;
  }

  byHand() {
    return this.#issue();
  }

  revokeAll() {
    for (const issued of this.#ends.keys()) this.#refused.add(issued);
  }

  // The fake server uses the issuer as its set of refused tokens.
  has = (one) => this.refusesAll || this.#refused.has(one) || this.#clock.elapsed() >= (this.#ends.get(one) ?? 0);

  /** The gateway warns before the end at a share of the lifetime, and closes at the end. */
  watch(socket) {
    for (const timer of socket.timers ?? []) timer();
    const left = (this.#ends.get(socket.token) ?? 0) - this.#clock.elapsed();
    socket.timers = [
      this.#clock.after(left * 0.75, () => socket.give({ type: "expiring", expires_at: "2026-11-22T13:00:00Z" })),
      this.#clock.after(left, () => socket.cut(4401)),
    ];
  }
}

for (const seed of SEEDS) {
  test(`random faults, seed ${seed}`, async () => {
    const random = seeded(seed);
    const pick = (...all) => all[Math.floor(random() * all.length)];
    let issuer;
    const { clock, server, chat, open, shown } = await setUp({
      prepare: (server) => {
        issuer = new Issuer(server.clock);
        server.refusedTokens = issuer;
        const { give } = server.WebSocket.prototype;
        server.WebSocket.prototype.give = function (frame) {
          give.call(this, frame);
          if (frame.type === "ready" || frame.type === "authenticated") issuer.watch(this);
        };
      },
      chat: { random, token: () => issuer.give() },
    });
    const conversation = open();
    const inbox = chat.inbox();
    const announced = [];
    conversation.on("message", ({ id }) => announced.push(id));
    const written = [];
    let faultRate = 0;
    let page = null; // of an intermediary
    let isHttpAway = false;
    let areSocketsAway = false;
    const answers = ["request-lost", "response-lost", "no-response", "ignores-abort", { status: 503, body: { detail: "away" } }, problem(503, "away"), problem(429, "slowly", { headers: { "Retry-After": "1" } })];
    await clock.advance(random() * 1_000);
    loseFrames(server, Math.floor(random() * 3) * 30); // before the first page
    server.intercept = () => (isHttpAway ? "request-lost" : page ? page() : random() < faultRate ? pick(...answers) : null);
    server.handshake = () => !areSocketsAway && !page && random() >= faultRate;
    for (let step = 0; step < 200; step++) {
      const dice = random();
      if (dice < 0.2) { written.push(`mine ${step}`); conversation.send(`mine ${step}`); }
      else if (dice < 0.35) server.write(PATIENT, `theirs ${step}`);
      else if (dice < 0.39) server.write(DOCTOR, `other window ${step}`);
      else if (dice < 0.46) server.receipt(random() < 0.5 ? "delivered" : "read", server.messages.filter((message) => message.sender_user_id && random() < 0.5).map(({ id }) => id));
      else if (dice < 0.53) server.cutAll(pick(1001, 1006, 1013, 4408));
      else if (dice < 0.56) loseFrames(server, Math.floor(random() * 70));
      else if (dice < 0.59) server.broadcast({ type: "degraded" });
      else if (dice < 0.63) { server.broadcast({ type: "resync" }); server.broadcast({ type: "recovered" }); }
      else if (dice < 0.66) faultRate = faultRate > 0 ? 0 : 0.6;
      else if (dice < 0.69) conversation.markRead();
      else if (dice < 0.71) for (const event of server.log.slice(-3)) server.broadcast(event); // duplicates
      else if (dice < 0.74) { const [body, status] = [pick(...PAGES), pick(200, 400, 401, 403, 404, 422, 502)]; page = page ? null : () => body(status); }
      else if (dice < 0.76) isHttpAway = !isHttpAway;
      else if (dice < 0.78) areSocketsAway = !areSocketsAway;
      else if (dice < 0.8) issuer.revokeAll();
      else if (dice < 0.815) issuer.refusesAll = !issuer.refusesAll;
      else if (dice < 0.83) issuer.life = pick(10, 60, 300, 3_600);
      else if (dice < 0.84) issuer.hangs = !issuer.hangs;
      else if (dice < 0.85) issuer.fails = !issuer.fails;
      else if (dice < 0.86) chat.setToken(issuer.byHand());
      else if (dice < 0.875) clock.set(pick(-1, 1) * random() * 86_400_000);
      else if (dice < 0.89) clock.sleep(random() * 3_600_000);
      else if (dice < 0.9) clock.stall(random() * 120_000);
      else if (dice < 0.91) server.speed = server.speed === null ? 20_000 : null;
      else {
        const { length } = server.requests;
        const { calls } = issuer;
        const ms = pick(3_000, 10_000, 60_000) * random();
        await clock.advance(ms);
        assert.ok(server.requests.length - length < 60 + ms / 100, `${server.requests.length - length} requests in ${ms} ms`);
        assert.ok(issuer.calls - calls < 6 + ms / 1_000, `${issuer.calls - calls} calls in ${ms} ms`);
        if (conversation.state === "live") assert.equal(conversation.error, null);
        else if (conversation.state !== "connecting" && conversation.state !== "reconnecting") assert.ok(conversation.error, conversation.state);
      }
      await clock.settle();
    }
    faultRate = 0;
    page = null;
    isHttpAway = areSocketsAway = issuer.hangs = issuer.fails = issuer.refusesAll = false;
    server.speed = null;
    server.broadcast({ type: "resync" });
    server.broadcast({ type: "recovered" });
    await clock.advance(180_000); // refused work is retried every two minutes at least

    assert.deepEqual([conversation.state, inbox.state], ["live", "live"]);
    assert.equal(chat.pending, 0);
    assert.deepEqual(conversation.messages.map(({ id }) => id), server.messages.map(({ id }) => id), "nothing lost, everything in order");
    assert.deepEqual(conversation.messages.map(({ read_at }) => read_at), server.messages.map(({ read_at }) => read_at), "receipts");
    const mine = server.messages.filter(({ content }) => content.startsWith("mine ")).map(({ content }) => content);
    assert.deepEqual(mine, written, "sent once each, in the order they were written");
    assert.equal(new Set(announced).size, announced.length, "announced once");
    assert.equal(inbox.rows[0]?.last_message.id, server.messages.at(-1)?.id, "the inbox");
    assert.equal(conversation.presence?.online, true);
    assert.deepEqual(chat.retrying, [], "no retry is left");
    const best = new Map();
    for (const screen of shown) {
      assert.equal(new Set(screen.map(({ key }) => key)).size, screen.length, "doubled");
      const seqs = screen.map(({ seq }) => seq ?? Infinity);
      assert.deepEqual(seqs, [...seqs].sort((a, b) => a - b), "out of order");
      for (const { key, status } of screen) {
        assert.notEqual(status, "failed");
        assert.ok(RANK[status] >= (best.get(key) ?? -1), `tick went back to ${status}`);
        best.set(key, RANK[status]);
      }
    }
    chat.close();
    await clock.settle();
    for (const socket of server.handshakes) for (const timer of socket.timers ?? []) timer();
    assert.equal(clock.waiting, 0, "timers");
  });
}
