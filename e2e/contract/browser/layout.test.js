// The console on small screens: a phone upright and on its side, and a screen whose corners the device covers.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, message, open, part, shut, signIn, state, write } from "./support/browser.js";
import { pair, token } from "../sdk/system.js";

before(launch);
after(shut);

const LANDSCAPE = { width: 740, height: 360 };

async function openConversation(viewport, more = {}) {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning", "How are my results?", "I am worried", "Please answer"]);
  const opened = await open("/", { viewport, hasTouch: true, ...more });
  await signIn(opened.page, "me", doctor);
  await opened.page.getByTestId("me-row").click();
  await message(opened.page, "me", "Good morning", "read");
  return opened;
}

/** Whether an element is completely on the screen. */
const isOnScreen = (locator) => locator.evaluate((element) => {
  const { top, bottom, left, right } = element.getBoundingClientRect();
  return top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth && bottom > top;
});

test("a phone on its side shows messages and the form to write one", async () => {
  const { page, wrong } = await openConversation(LANDSCAPE);
  for (const name of ["input", "send", "back"]) assert.ok(await isOnScreen(part(page, "me", name)), name);
  const visible = await part(page, "me", "messages").evaluate((list) => {
    const { top, bottom } = list.getBoundingClientRect();
    return [...list.querySelectorAll("article")].filter((one) => one.getBoundingClientRect().top >= top - 1 && one.getBoundingClientRect().bottom <= bottom + 1).length;
  });
  assert.ok(visible >= 2, `${visible} messages are visible`);
  const { height } = await part(page, "me", "messages").boundingBox();
  assert.ok(height >= LANDSCAPE.height / 2, `${height} px for messages`);
  assert.equal(await page.evaluate(() => document.scrollingElement.scrollHeight), LANDSCAPE.height, "the page itself does not scroll");
  await part(page, "me", "back").click();
  await page.getByTestId("me-row").waitFor();
  for (const testid of ["me-row", "me-search", "settings", "me-signout"]) assert.ok(await isOnScreen(page.getByTestId(testid)), testid);
  assert.deepEqual(wrong, []);
});

test("a phone on its side shows both panes side by side", async () => {
  const { doctor, patient } = pair();
  const { page } = await open("/#both", { viewport: LANDSCAPE });
  for (const [pane, who] of [["doctor", doctor], ["patient", patient]]) {
    await page.getByTestId(`${pane}-token`).fill(token(who));
    await page.getByTestId(`${pane}-signin`).click();
  }
  for (const pane of ["doctor", "patient"]) {
    await part(page, pane, "input").waitFor();
    await state(page, pane, "live");
    assert.ok(await isOnScreen(part(page, pane, "input")), pane);
    assert.ok((await part(page, pane, "messages").boundingBox()).height >= 100, pane);
  }
});

for (const [name, viewport] of [["upright", { width: 390, height: 844 }], ["on its side", { width: 844, height: 390 }]]) {
  test(`nothing lies below the rounded corners and the notch: ${name}`, async () => {
    const { page } = await openConversation(viewport);
    const insets = { top: 40, right: 44, bottom: 34, left: 44 };
    const tools = await page.context().newCDPSession(page);
    await tools.send("Emulation.setSafeAreaInsetsOverride", { insets });
    const isInside = (locator) => locator.evaluate((element, insets) => {
      const { top, bottom, left, right } = element.getBoundingClientRect();
      return top >= insets.top && left >= insets.left && bottom <= innerHeight - insets.bottom && right <= innerWidth - insets.right;
    }, insets);
    for (const name of ["input", "send", "back"]) assert.ok(await isInside(part(page, "me", name)), name);
  });
}
