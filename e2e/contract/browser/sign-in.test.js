// Signing in to the console, and tokens that end.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { apartFromTheNetwork, converse, DOCTOR, launch, message, open, part, problem, send, shut, signIn, state } from "./support/browser.js";
import { BASE, pair, token } from "../sdk/system.js";

before(launch);
after(shut);

test("a 401 that passes needs no new sign-in", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/");
  await signIn(page, "me", doctor);
  await converse(page, "me", patient);
  await page.route("**/chat/**", (route) => route.fulfill(problem(401, "the token is not known")));
  await send(page, "me", "Still here");
  await page.getByTestId("me-token-form").filter({ hasText: "does not accept this sign-in: the token is not known" }).waitFor();
  await message(page, "me", "Still here", "sending");
  await page.unroute("**/chat/**");
  await message(page, "me", "Still here", "sent");
  await page.getByTestId("me-token-form").waitFor({ state: "hidden" });
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("a revoked token is replaced and waiting messages are sent", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/#both");
  await page.getByTestId("doctor-token").fill("nonsense");
  await page.getByTestId("doctor-signin").click();
  await page.getByTestId("doctor-error").filter({ hasText: "no access token" }).waitFor();
  await page.getByTestId("doctor-token").fill(token(patient));
  await page.getByTestId("doctor-signin").click();
  await page.getByTestId("doctor-error").filter({ hasText: "token of a patient" }).waitFor();

  await signIn(page, "doctor", doctor, { jti: `${doctor.user_id}-1` });
  await converse(page, "doctor", patient);
  const answer = await fetch(`${BASE}/admin/revocations`, {
    method: "POST", body: JSON.stringify({ jti: `${doctor.user_id}-1` }),
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token({ user_id: "ehr" }, { role: "service", admin: true })}` },
  });
  assert.equal(answer.status, 204);
  await page.getByTestId("doctor-token-form").filter({ hasText: "Your sign-in was revoked." }).waitFor();
  await send(page, "doctor", "Written without a token");
  await message(page, "doctor", "Written without a token", "sending");
  await page.getByTestId("doctor-again").fill(token(doctor));
  await page.getByTestId("doctor-again").press("Enter");
  await message(page, "doctor", "Written without a token", "sent");
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("demo people sign in with one click, in development only", async () => {
  const { page, wrong } = await open("/#both");
  await page.getByTestId("doctor-demo-doc123").click();
  await page.getByTestId("patient-demo-pat456").click();
  await state(page, "doctor", "live");
  await send(page, "doctor", "Welcome to the demonstration");
  await message(page, "patient", "Welcome to the demonstration", "read");
  await page.getByRole("heading", { name: "Maria Santos" }).first().waitFor();
  assert.deepEqual(wrong, []);

  const production = (await (await fetch(`${BASE}/`)).text()).replace('content="development"', 'content="production"');
  const bare = await open("/docs");
  await bare.page.route(`${BASE}/`, (route) => route.fulfill({ contentType: "text/html", body: production }));
  await bare.page.goto(`${BASE}/`);
  await bare.page.getByTestId("me-token").waitFor();
  assert.equal(await bare.page.locator(".person-choice").count(), 0);
  await signIn(bare.page, "me", DOCTOR);
  assert.equal(await bare.page.getByText("Amara Okafor").count(), 0, "names are the demonstration's");
});

test("an expired token is called expired, and another one keeps the draft", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/");
  await page.getByTestId("me-token").fill(token(doctor, { ttl: -3_600 }));
  await page.getByTestId("me-signin").click();
  await page.getByTestId("me-error").filter({ hasText: /^Your sign-in expired: / }).waitFor();

  // The server closes the socket when the token ends.
  await signIn(page, "me", doctor, { ttl: 8 });
  await converse(page, "me", patient);
  await part(page, "me", "input").fill("half a sentence");
  const form = page.getByTestId("me-token-form");
  await form.filter({ hasText: "Your sign-in ends at" }).waitFor();
  await form.filter({ hasText: "Your sign-in expired: " }).waitFor({ timeout: 60_000 });
  assert.equal(await part(page, "me", "input").inputValue(), "half a sentence");

  await page.reload(); // the session is still there, and says the same
  await form.filter({ hasText: "Your sign-in expired: " }).waitFor();
  await page.getByTestId("me-again").fill(token(doctor));
  await page.getByTestId("me-again").press("Enter");
  await state(page, "me", "live");
  await form.waitFor({ state: "hidden" });
  assert.equal(await part(page, "me", "input").inputValue(), "half a sentence");
  await part(page, "me", "input").press("Enter");
  await message(page, "me", "half a sentence", "sent");
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("a newcomer reaches the first chat with one click", async () => {
  const { page, wrong } = await open("/");
  let clicks = 0;
  await page.exposeFunction("countClick", () => { clicks++; });
  await page.evaluate(() => addEventListener("click", () => window.countClick(), true));
  await page.getByRole("button", { name: "Try it: a doctor and a patient side by side" }).click();
  await state(page, "doctor", "live");
  await state(page, "patient", "live");
  const input = part(page, "doctor", "input");
  await page.waitForFunction(() => document.activeElement.closest('[data-pane="doctor"]'));
  assert.ok(await input.evaluate((input) => input.getRootNode().activeElement === input), "ready to write");
  const text = `My first message ${Date.now()}`;
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
  await message(page, "patient", text, "read");
  await message(page, "doctor", text, "read");
  assert.equal(clicks, 1);
  assert.deepEqual(wrong, []);
});

test("an empty inbox offers people to write to, in development only", async () => {
  const { page } = await open("/");
  await page.getByTestId("me-demo-nurse7").click();
  await page.getByTestId("me-start-pat789").click();
  const text = `Hello Jonas ${Date.now()}`;
  await send(page, "me", text);
  await message(page, "me", text, "sent");
});
