// Signing in to the console, and tokens that end.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { apartFromTheNetwork, converse, DOCTOR, launch, message, open, problem, send, shut, signIn, state } from "./browser.js";
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
  await page.getByText("Your sign-in has ended").waitFor();
  await message(page, "me", "Still here", "sending");
  await page.unroute("**/chat/**");
  await message(page, "me", "Still here", "sent");
  await page.getByText("Your sign-in has ended").waitFor({ state: "hidden" });
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
  await page.getByText("Your sign-in has ended").waitFor();
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
