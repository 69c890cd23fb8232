// The console without a mouse, and what axe finds in both themes on a wide screen and on a phone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { apartFromTheNetwork, launch, message, open, part, problem, send, shut, signIn, state, violations, write } from "./browser.js";
import { pair, token } from "../sdk/system.js";

before(launch);
after(shut);

test("the keyboard alone reaches everything", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Are you there?"]);
  const { page, wrong } = await open("/");
  const tabTo = async (testid) => {
    for (let presses = 0; presses < 30; presses++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((id) => document.activeElement?.dataset.testid === id, testid)) return;
    }
    assert.fail(`the keyboard does not reach ${testid}`);
  };
  await tabTo("me-token");
  await page.keyboard.insertText(token(doctor));
  await page.keyboard.press("Enter");
  await page.getByTestId("me-row").waitFor();
  await tabTo("me-row");
  await page.keyboard.press("Enter");
  await message(page, "me", "Are you there?", "read");
  assert.equal(await page.evaluate(() => document.activeElement.id), "me-input", "ready to write");
  await page.keyboard.type("I am");
  await page.keyboard.press("Enter");
  await message(page, "me", "I am", "sent");
  await page.keyboard.press("Shift+Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "me-messages", "the messages can be scrolled");
  assert.deepEqual(wrong, []);
});

for (const colorScheme of ["light", "dark"]) {
  for (const [name, viewport] of [["wide", { width: 1280, height: 800 }], ["a phone", { width: 360, height: 740 }]]) {
    test(`axe finds no violation: ${colorScheme}, ${name}`, async () => {
      const { doctor, patient } = pair();
      await write(patient, doctor, ["Good morning", "How are my results?"]);
      const { page, wrong } = await open("/", { colorScheme, viewport });
      const check = async (what) => {
        assert.deepEqual(await violations(page), [], what);
        const { scrollWidth, clientWidth } = await page.evaluate(() => document.scrollingElement);
        assert.equal(scrollWidth, clientWidth, `${what} is wider than the screen`);
      };
      await check("signing in");
      await page.getByTestId("me-token").fill("nonsense");
      await page.getByTestId("me-signin").click();
      await page.getByTestId("me-error").filter({ hasText: "token" }).waitFor();
      await check("a mistake");
      await signIn(page, "me", doctor);
      await page.getByTestId("me-row").waitFor();
      await check("the inbox");
      await page.getByTestId("me-new-button").click();
      await check("a new conversation");
      await page.getByTestId("me-new-button").click();
      await page.getByTestId("me-row").click();
      await message(page, "me", "How are my results?", "read");
      await page.route("**/chat/send", (route) => route.fulfill(problem(422, "not today")), { times: 1 });
      await send(page, "me", "refused");
      await message(page, "me", "refused", "failed");
      await send(page, "me", `They are fine. ${"long".repeat(60)}`);
      await message(page, "me", "They are fine.", "sent");
      await check("a conversation");
      if (viewport.width < 400) {
        await part(page, "me", "back").click();
        await page.getByTestId("me-row").waitFor();
      }
      await page.getByTestId("view-both").click();
      await page.getByTestId("doctor-token").waitFor();
      await signIn(page, "doctor", doctor);
      await signIn(page, "patient", patient);
      await state(page, "patient", "live");
      await check("side by side");
      assert.deepEqual(apartFromTheNetwork(wrong), []);
    });
  }
}
