// The console without a mouse, where its focus goes, and what axe finds in both themes on a wide screen and on a phone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { apartFromTheNetwork, launch, message, open, part, problem, send, shut, signIn, state, violations, write } from "./support/browser.js";
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
  assert.equal(await focused(page), "input", "ready to write");
  await page.keyboard.type("I am");
  await page.keyboard.press("Enter");
  await message(page, "me", "I am", "sent");
  await page.keyboard.press("Shift+Tab");
  assert.equal(await focused(page), "messages", "the messages can be scrolled");
  assert.deepEqual(wrong, []);
});

const focused = (page) => page.evaluate(() => {
  let element = document.activeElement;
  while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  return element.dataset.testid ?? element.getAttribute("part") ?? element.localName;
});
const waitForFocus = (page, testid) => page.waitForFunction((testid) => document.activeElement.dataset.testid === testid, testid);
const isInputFocused = (page) => part(page, "me", "input").evaluate((input) => input.getRootNode().activeElement === input);

async function signInByKeyboard(page, who) {
  await page.getByTestId("me-token").fill(token(who));
  await page.getByTestId("me-token").press("Enter");
}

test("after signing in the focus is where the user goes on", async () => {
  const { doctor, patient } = pair();
  const one = await open("/");
  await signInByKeyboard(one.page, doctor);
  await waitForFocus(one.page, "me-start-doc123"); // the inbox is empty, so it offers the demo people
  await one.page.getByTestId("me-new-button").press("Enter");
  assert.equal(await focused(one.page), "me-new-id");
  await one.page.keyboard.press("Escape");
  assert.equal(await focused(one.page), "me-new-button");
  await one.page.getByTestId("me-signout").click();
  assert.notEqual(await focused(one.page), "body", "after signing out, too");

  await write(patient, doctor, ["Good morning"]);
  await write(pair().patient, doctor, ["Good evening"]);
  await signInByKeyboard(one.page, doctor);
  await waitForFocus(one.page, "me-row");
  await one.page.keyboard.press("ArrowDown");
  await one.page.keyboard.press("Enter");
  await message(one.page, "me", "Good morning", "read");
  assert.ok(await isInputFocused(one.page), "ready to write");
  assert.deepEqual(one.wrong, []);
});

test("a refused sign-in keeps the focus", async () => {
  const { page } = await open("/");
  await page.getByTestId("me-token").fill("nonsense");
  await page.getByTestId("me-token").press("Enter");
  await page.getByTestId("me-error").filter({ hasText: "no access token" }).waitFor();
  assert.equal(await focused(page), "me-token");
});

for (const [name, viewport] of [["wide", { width: 1280, height: 800 }], ["a phone", { width: 360, height: 740 }]]) {
  test(`Escape leaves a conversation and keeps its draft: ${name}`, async () => {
    const { doctor, patient } = pair();
    await write(patient, doctor, ["Good morning"]);
    await write(pair().patient, doctor, ["Good evening"]);
    const { page, wrong } = await open("/", { viewport });
    await signIn(page, "me", doctor);
    const row = page.getByTestId("me-row").filter({ hasText: "Good morning" });
    await row.click();
    await message(page, "me", "Good morning", "read");
    await part(page, "me", "input").fill("not sent yet");
    await part(page, "me", "input").press("Escape");
    await part(page, "me", "input").waitFor({ state: "detached" });
    assert.ok(await row.evaluate((row) => row === document.activeElement), "the focus is on its row");
    await page.keyboard.press("Enter");
    await part(page, "me", "input").waitFor();
    assert.equal(await part(page, "me", "input").inputValue(), "not sent yet");

    await page.reload();
    await part(page, "me", "input").waitFor();
    assert.equal(await part(page, "me", "input").inputValue(), "not sent yet", "a reload keeps it, too");
    assert.deepEqual(wrong, []);
  });
}

test("Escape in an input method ends the composition only", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { page } = await open("/");
  await signIn(page, "me", doctor);
  await page.getByTestId("me-row").click();
  const input = part(page, "me", "input");
  await input.focus();
  const tools = await page.context().newCDPSession(page);
  await tools.send("Input.imeSetComposition", { text: "かな", selectionStart: 2, selectionEnd: 2 });
  assert.equal(await input.inputValue(), "かな");
  await input.press("Escape"); // the browser marks it as `isComposing`
  assert.equal(await input.count(), 1);
  // Safari ends the composition first. Then `keydown` has the code 229, and no mark.
  await tools.send("Input.imeSetComposition", { text: "", selectionStart: 0, selectionEnd: 0 });
  await input.evaluate((input) => input.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", keyCode: 229, bubbles: true, composed: true })));
  assert.equal(await input.count(), 1);
  await input.press("Escape");
  await input.waitFor({ state: "detached" });
});

test("signing out removes drafts", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { page } = await open("/");
  await signIn(page, "me", doctor);
  await page.getByTestId("me-row").click();
  await part(page, "me", "input").fill("a private thought");
  assert.ok((await page.evaluate(() => JSON.stringify({ ...sessionStorage }))).includes("a private thought"));
  await page.getByTestId("me-signout").click();
  assert.equal(await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }])), "[{},{}]");
  await signIn(page, "me", doctor);
  await state(page, "me", "live");
  await page.getByTestId("me-row").click();
  await part(page, "me", "input").waitFor();
  assert.equal(await part(page, "me", "input").inputValue(), "");
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
      await page.getByTestId("settings").click();
      await check("the settings");
      await page.keyboard.press("Escape");
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
      await page.context().setOffline(true);
      await page.getByTestId("me-connection").filter({ hasText: "You are offline." }).waitFor();
      await check("without network");
      await page.context().setOffline(false);
      await page.getByTestId("me-connection").waitFor({ state: "hidden" });
      if (viewport.width < 400) {
        await part(page, "me", "back").click();
        await page.getByTestId("me-row").waitFor();
      }
      page.once("dialog", (dialog) => dialog.accept()); // a message that was not sent would be lost
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
