// New messages that are not on the screen: sound, desktop notifications, and what these show.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, message, open, shut, signIn, state, write } from "./support/browser.js";
import { pair } from "../sdk/system.js";

before(launch);
after(shut);

/** Opens the console for a participant. It records what the page asks the browser for: permissions, notifications, tones. */
async function openRecorded(who, { permissions = [] } = {}) {
  const opened = await open("/docs");
  const { page, window } = opened;
  if (permissions.length > 0) await window.grantPermissions(permissions);
  await page.addInitScript(() => {
    window.requests = 0;
    window.shown = [];
    window.tones = 0;
    const Real = Notification;
    class Recorded extends Real {
      constructor(title, options) {
        super(title, options);
        const record = { title, body: options.body, tag: options.tag, isOpen: true };
        window.shown.push(record);
        window.last = this;
        this.close = () => { record.isOpen = false; super.close(); };
      }
      static requestPermission() { window.requests++; return Real.requestPermission(); }
    }
    window.Notification = Recorded;
    const { start } = OscillatorNode.prototype;
    OscillatorNode.prototype.start = function (...given) { window.tones++; return start.apply(this, given); };
  });
  await page.goto(new URL("/", page.url()).href);
  await signIn(page, "me", who);
  await state(page, "me", "live");
  return opened;
}

const shown = (page, count) => page.waitForFunction((count) => window.shown.length === count, count).then(() => page.evaluate(() => window.shown));

async function turnOn(page, level) {
  await page.getByTestId("settings").click();
  if (await page.getByTestId("notifications-button").textContent() === "Turn on") await page.getByTestId("notifications-button").click();
  if (level) await page.getByTestId("setting-notifications").selectOption(level);
  await page.getByTestId("setting-notifications").waitFor();
  await page.getByTestId("settings-close").click();
}

/** The page as it is in a background tab. A headless browser shows all tabs. */
const setVisibility = (page, visibility) => page.evaluate((visibility) => {
  Object.defineProperty(document, "visibilityState", { value: visibility, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}, visibility);

test("a notification shows that there is a message, and who wrote what only when the user switched it on", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await openRecorded(doctor, { permissions: ["notifications"] });
  await write(patient, doctor, ["before the click"]);
  await page.locator('[data-testid="me-row"][data-unread="1"]').waitFor();
  assert.deepEqual(await page.evaluate(() => [window.requests, window.shown]), [0, []], "nothing without a click");

  await turnOn(page);
  assert.equal(await page.evaluate(() => window.requests), 1);
  await write(patient, doctor, ["a secret"]);
  const [first] = await shown(page, 1);
  assert.deepEqual([first.title, first.body], ["New message", ""]);
  assert.ok(!first.tag.includes(patient.contact_id), "the system may log the tag");

  await turnOn(page, "names");
  await write(patient, doctor, ["another secret"]);
  const [, second] = await shown(page, 2);
  assert.deepEqual([second.title, second.body], [`New message from ${patient.contact_id}`, ""]);
  assert.equal(await page.evaluate(() => JSON.stringify({ ...localStorage })), JSON.stringify({ "chat-notifications": "names" }));

  await turnOn(page, "content");
  await write(patient, doctor, ["meant to be read"]);
  const [, , third] = await shown(page, 3);
  assert.deepEqual([third.title, third.body], [`New message from ${patient.contact_id}`, "meant to be read"]);
  assert.equal(await page.evaluate(() => localStorage.getItem("chat-notifications")), "names", "the choice to show texts ends with the tab");

  // A click opens the conversation. What is read is not announced any more.
  await page.evaluate(() => window.last.onclick());
  await message(page, "me", "meant to be read", "read");
  await page.waitForFunction(() => !window.shown[2].isOpen); // the browser itself replaced the ones before
  assert.deepEqual(wrong, []);
});

test("a message on the screen draws no attention, and one in a background tab does", async () => {
  const { doctor, patient } = pair();
  const { patient: other } = pair();
  const { page, wrong } = await openRecorded(doctor, { permissions: ["notifications"] });
  await turnOn(page);
  await write(patient, doctor, ["Good morning"]);
  await shown(page, 1);
  await page.getByTestId("me-row").click();
  await message(page, "me", "Good morning", "read");
  const tones = await page.evaluate(() => window.tones);
  await write(patient, doctor, ["in front of me"]);
  await message(page, "me", "in front of me", "read");
  assert.deepEqual(await page.evaluate(() => [window.shown.length, window.tones]), [1, tones]);

  await write(other, doctor, ["another conversation"]);
  await shown(page, 2);
  await setVisibility(page, "hidden");
  await write(patient, doctor, ["behind me"]);
  await shown(page, 3);
  await setVisibility(page, "visible");
  await message(page, "me", "behind me", "read");
  await page.waitForFunction(() => !window.shown[2].isOpen);
  assert.deepEqual(wrong, []);
});

test("a sound announces a message, unless it is muted", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await openRecorded(doctor);
  await write(patient, doctor, ["one"]);
  await page.waitForFunction(() => window.tones === 2);
  await page.getByTestId("settings").click();
  await page.getByTestId("setting-sound").uncheck();
  await page.getByTestId("settings-close").click();
  await write(patient, doctor, ["two"]);
  await page.locator('[data-testid="me-row"][data-unread="2"]').waitFor();
  assert.equal(await page.evaluate(() => window.tones), 2);
  assert.equal(await page.evaluate(() => window.requests), 0, "no permission is needed");
  assert.deepEqual(wrong, []);
});

test("a browser that blocks notifications is named", async () => {
  const { doctor } = pair();
  const { page } = await openRecorded(doctor);
  await page.evaluate(() => Object.defineProperty(Notification, "permission", { value: "denied" }));
  await page.getByTestId("settings").click();
  await page.getByTestId("notifications-text").filter({ hasText: "Your browser blocks notifications" }).waitFor();
  assert.equal(await page.getByTestId("notifications-button").isVisible(), false);
});
