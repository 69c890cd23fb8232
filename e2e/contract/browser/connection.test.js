// What the console says about its connection. A browser without network, a proxy that blocks sockets, and a gateway that is away.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { apartFromTheNetwork, converse, launch, message, open, part, send, shut, signIn, state, write } from "./support/browser.js";
import { intermediary, line, pair } from "../sdk/system.js";

before(launch);
after(shut);

const bar = (page) => page.getByTestId("me-connection");

/** Milliseconds from a change of the network to the state. */
async function measure(page, wanted, change) {
  const start = performance.now();
  await change();
  await state(page, "me", wanted);
  return performance.now() - start;
}

test("without network the state is offline at once, and messages wait", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/");
  await signIn(page, "me", doctor);
  await converse(page, "me", patient);
  assert.equal(await bar(page).isVisible(), false);

  // The state follows the browser's event. It does not wait for the next heartbeat.
  await page.evaluate(() => {
    const state = document.querySelector('[data-testid="me-state"]');
    window.stateAfterEvent = new Promise((resolve) => {
      const afterDrawing = (then) => requestAnimationFrame(() => requestAnimationFrame(then));
      addEventListener("offline", () => afterDrawing(() => resolve(state.dataset.state)), { once: true });
    });
  });
  await page.context().setOffline(true);
  assert.equal(await page.evaluate(() => window.stateAfterEvent), "offline");
  await bar(page).filter({ hasText: "You are offline." }).waitFor();
  await send(page, "me", "first");
  await page.getByTestId("me-waiting").filter({ hasText: "1 message is waiting." }).waitFor();
  await send(page, "me", "second");
  await page.getByTestId("me-waiting").filter({ hasText: "2 messages are waiting." }).waitFor();

  await page.context().setOffline(false);
  await state(page, "me", "live");
  await message(page, "me", "second", "sent");
  await bar(page).waitFor({ state: "hidden" });
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("a lost connection counts down to the next attempt, and try now does not wait", async (t) => {
  const { doctor, patient } = pair();
  const cable = await line(t);
  const { page, wrong } = await open("/", { base: cable.url });
  await signIn(page, "me", doctor);
  await converse(page, "me", patient);
  await page.evaluate(() => {
    window.states = [];
    const state = document.querySelector('[data-testid="me-state"]');
    new MutationObserver(() => window.states.push(state.dataset.state)).observe(state, { attributes: true });
  });
  cable.cut();
  await page.waitForFunction(() => window.states.some((state) => /^(reconnecting|offline)$/.test(state)));
  await send(page, "me", "Written in the lift");
  // The waits grow. A long one shows that it is the click that ends it.
  await page.waitForFunction(() => Number(/\d+/.exec(document.querySelector('[data-testid="me-countdown"]').textContent)?.[0]) >= 3);
  const count = await page.getByTestId("me-countdown").textContent();
  await page.waitForFunction((count) => { const { textContent } = document.querySelector('[data-testid="me-countdown"]'); return textContent !== "" && textContent !== count; }, count);
  await page.waitForFunction(() => Number(/\d+/.exec(document.querySelector('[data-testid="me-countdown"]').textContent)?.[0]) >= 3);
  cable.mend();
  const took = await measure(page, "live", () => page.getByTestId("me-try-now").click());
  assert.ok(took < 2_500, `${took} ms`);
  await message(page, "me", "Written in the lift", "sent");
  await bar(page).waitFor({ state: "hidden" });
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("a proxy that blocks sockets is named, and messages still arrive", async (t) => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const between = await intermediary(t);
  between.sockets = false;
  const { page, wrong } = await open("/", { base: between.url });
  await signIn(page, "me", doctor);
  await state(page, "me", "blocked");
  await bar(page).filter({ hasText: "blocks live updates" }).waitFor();
  await page.getByTestId("me-row").click();
  await message(page, "me", "Good morning", "read");
  await state(page, "me", "blocked");
  await send(page, "me", "It works, only later");
  await message(page, "me", "It works, only later", "sent");
  await write(patient, doctor, ["I see"]);
  await message(page, "me", "I see", "read");
  assert.equal(await part(page, "me", "banner").isVisible(), false, "the page says it once");

  between.sockets = true;
  await page.getByTestId("me-try-now").click();
  await state(page, "me", "live");
  await bar(page).waitFor({ state: "hidden" });
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("the inbox alone shows the state, too", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { page } = await open("/");
  await signIn(page, "me", doctor);
  await state(page, "me", "live");
  await page.context().setOffline(true);
  await state(page, "me", "offline");
  await bar(page).filter({ hasText: "You are offline." }).waitFor();
  await page.context().setOffline(false);
  await state(page, "me", "live");
});
