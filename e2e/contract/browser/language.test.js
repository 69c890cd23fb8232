// The console in English and German, and times in the zone of the viewer.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, message, open, part, send, shut, signIn, state, write } from "./support/browser.js";
import { pair, BASE, token } from "../sdk/system.js";

before(launch);
after(shut);

async function choose(page, language) {
  await page.getByTestId("settings").click();
  await page.getByTestId("setting-language").selectOption(language);
  await page.getByTestId("settings-close").click();
}

test("the browser's language is taken, and another can be chosen without losing anything", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { page, wrong } = await open("/", { locale: "de-AT" });
  await page.getByRole("heading", { name: "Anmelden", exact: true }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), "de-AT", "with its region");
  await signIn(page, "me", doctor);
  await state(page, "me", "live");
  await page.getByTestId("me-signout").filter({ hasText: "Abmelden" }).waitFor();
  await page.getByTestId("me-row").click();
  await message(page, "me", "Good morning", "read");
  await part(page, "me", "input").fill("noch nicht gesendet");

  await choose(page, "en");
  await page.getByTestId("me-signout").filter({ hasText: "Sign out" }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), "en");
  assert.equal(await part(page, "me", "input").inputValue(), "noch nicht gesendet", "the draft is kept");
  assert.equal(await part(page, "me", "input").getAttribute("placeholder"), "Write a message");
  await part(page, "me", "input").press("Enter");
  await message(page, "me", "noch nicht gesendet", "sent");
  await state(page, "me", "live");

  await page.reload();
  await page.getByTestId("me-signout").filter({ hasText: "Sign out" }).waitFor();
  await choose(page, "auto");
  await page.getByTestId("me-signout").filter({ hasText: "Abmelden" }).waitFor();
  assert.deepEqual(wrong, []);
});

test("a waiting message survives a change of the language", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { page, window } = await open("/");
  await signIn(page, "me", doctor);
  await page.getByTestId("me-row").click();
  await message(page, "me", "Good morning", "read");
  await window.setOffline(true);
  await state(page, "me", "offline");
  await send(page, "me", "written without network");
  await choose(page, "de");
  await page.getByTestId("me-waiting").filter({ hasText: "1 Nachricht wartet." }).waitFor();
  await message(page, "me", "written without network", "sending");
  await window.setOffline(false);
  await message(page, "me", "written without network", "sent");
});

test("no text of the console is left in English", async () => {
  const { doctor, patient } = pair();
  const ENGLISH = /\b(the|your|message|messages|sign|unread|search|conversation|settings|with|open|show)\b/i;
  const { page } = await open("/", { locale: "de-DE" });
  const check = async (what) => {
    const texts = await page.evaluate(() => {
      const found = [];
      const visit = (root) => {
        const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
        for (let node = walker.nextNode(); node; node = walker.nextNode()) {
          if (node.nodeType === Node.TEXT_NODE) { if (!["CODE", "SCRIPT", "STYLE"].includes(node.parentElement?.tagName)) found.push(node.data); continue; }
          for (const name of ["aria-label", "title", "placeholder"]) found.push(node.getAttribute(name) ?? "");
          if (node.shadowRoot) visit(node.shadowRoot);
        }
      };
      visit(document.body);
      return found;
    });
    assert.deepEqual(texts.filter((text) => ENGLISH.test(text.replace("Language", ""))), [], what);
  };
  await page.getByTestId("me-token").waitFor();
  await check("signing in");
  await signIn(page, "me", doctor);
  await state(page, "me", "live");
  await page.getByTestId("me-new-button").click();
  await check("an empty inbox");
  await page.getByTestId("me-new-button").click();
  await page.getByTestId("settings").click();
  await check("the settings");
  await page.getByTestId("settings-close").click();
  await write(patient, doctor, ["Guten Tag", "Wie geht es?"]);
  await page.getByTestId("me-mark-all").waitFor();
  await check("an inbox");
  await page.getByTestId("me-row").click();
  await message(page, "me", "Guten Tag", "read");
  await check("a conversation");
  await page.context().setOffline(true);
  await state(page, "me", "offline");
  await send(page, "me", "Ohne Netz");
  await page.getByTestId("me-waiting").filter({ hasText: "wartet" }).waitFor();
  await check("without network");
});

test("times are in the zone of the viewer", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { conversations } = await (await fetch(`${BASE}/chat/conversations?location_id=loc1`, { headers: { Authorization: `Bearer ${token(doctor)}` } })).json();
  const sent = new Date(conversations[0].last_activity_at);
  for (const timezoneId of ["Pacific/Auckland", "America/Los_Angeles", "Asia/Kolkata"]) {
    const { page } = await open("/", { timezoneId });
    await signIn(page, "me", doctor);
    const time = page.getByTestId("me-row").locator("time");
    await time.waitFor();
    assert.equal(await time.textContent(), new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: timezoneId }).format(sent), timezoneId);
    await page.context().close();
  }
});

test("a birth date is the same day in every zone", async () => {
  for (const timezoneId of ["Pacific/Auckland", "America/Los_Angeles"]) {
    const { page } = await open("/", { timezoneId });
    await page.getByTestId("me-demo-pat456").getByText("born 12 Mar 1984").waitFor();
    await page.context().close();
  }
});
