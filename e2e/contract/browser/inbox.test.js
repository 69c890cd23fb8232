// The inbox of the console: badges for any number of unread messages, people who share a name, and text from right to left.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, open, part, send, shut, signIn, upTo, write, writeMany } from "./support/browser.js";
import { pair } from "../sdk/system.js";

before(launch);
after(shut);

const UNREAD = 300;

const row = (page, unread) => page.locator(`[data-testid="me-row"][data-unread="${unread}"]`);

test("the badge and the title are right above 99, and mark all read works for a conversation that is not open", async () => {
  const { doctor, patient } = pair();
  await writeMany(patient, doctor, UNREAD);
  const one = await open("/");
  const other = await open("/");
  await signIn(one.page, "me", doctor);
  await signIn(other.page, "me", patient);
  await other.page.getByTestId("me-row").click();

  const badge = row(one.page, UNREAD).locator(".badge");
  await badge.waitFor();
  assert.deepEqual(await badge.locator("span").allTextContents(), ["99+", "300 unread messages"]);
  assert.equal(await badge.locator("[aria-hidden]").textContent(), "99+", "screen readers get the exact number only");
  assert.equal(await one.page.title(), "(300) EHR chat");

  const mark = one.page.getByRole("button", { name: `Mark all 300 messages from ${patient.contact_id} as read` });
  await mark.focus();
  await one.page.keyboard.press("Enter");
  await row(one.page, 0).waitFor();
  await mark.waitFor({ state: "detached" });
  assert.equal(await one.page.title(), "EHR chat");
  assert.equal(await one.page.evaluate(() => document.activeElement.dataset.testid), "me-row", "the focus stays in the row");
  assert.equal(await part(one.page, "me", "messages").count(), 0, "the conversation is not open");
  await part(other.page, "me", "messages").locator(`[data-seq="${UNREAD}"][data-state="read"]`).waitFor();

  await send(other.page, "me", "one more");
  await row(one.page, 1).waitFor();
  assert.equal(await one.page.title(), "(1) EHR chat");
  assert.deepEqual([...one.wrong, ...other.wrong], []);
});

test("mark all read says why it failed, and can be tried again", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { page } = await open("/");
  await signIn(page, "me", doctor);
  await page.route("**/chat/read*", (route) => route.fulfill({ status: 403, contentType: "application/problem+json", body: JSON.stringify({ type: "about:blank", title: "Forbidden", status: 403, detail: "not now", request_id: "r1" }) }));
  await page.getByTestId("me-mark-all").click();
  await page.getByTestId("me-inbox-problem").filter({ hasText: "not now" }).waitFor();
  await page.unroute("**/chat/read*");
  await page.locator('[data-testid="me-mark-all"]:not([aria-disabled])').click();
  await row(page, 0).waitFor();
  assert.equal(await page.getByTestId("me-inbox-problem").textContent(), "");
});

test("two patients of one name differ in the inbox, the conversation and the search", async () => {
  const doctor = { user_id: "doc123" };
  const [older, younger] = [{ contact_id: "pat457" }, { contact_id: "pat456" }];
  await write(older, doctor, ["from the older one"]);
  await write(younger, doctor, ["from the younger one"]);
  const { page, wrong } = await open("/");
  await signIn(page, "me", doctor);
  const rowOf = ({ contact_id }) => page.locator(`[data-testid="me-row"][data-peer$="${contact_id}"]`);
  await rowOf(older).waitFor();
  for (const [who, details] of [[older, "born 30 Nov 1951 · record 100457"], [younger, "born 12 Mar 1984 · record 100456"]]) {
    assert.equal(await rowOf(who).locator("strong").textContent(), "Maria Santos");
    assert.equal(await rowOf(who).locator(".ident").textContent(), details);
    assert.ok(await rowOf(who).locator(".ident").evaluate(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth), "the record number is not cut");
    await rowOf(who).click();
    await page.locator('[data-pane="me"]').getByRole("region", { name: "Maria Santos" }).getByText(details).waitFor();
  }
  for (const query of ["100457", "1951", "record 100457", "pat457"]) {
    await page.getByTestId("me-search").fill(query);
    await rowOf(younger).waitFor({ state: "detached" });
    assert.equal(await rowOf(older).count(), 1, query);
  }
  await page.getByTestId("me-search").fill("maria santos");
  await rowOf(younger).waitFor();
  assert.equal(await rowOf(older).count(), 1);
  assert.deepEqual(wrong, []);
});

test("names and texts from right to left keep their order", async () => {
  const doctor = { user_id: "doc123" };
  const patient = { contact_id: "pat812" };
  await write(patient, doctor, ["האם לקחת ibuprofen 400mg?"]);
  const { page, wrong } = await open("/");
  await signIn(page, "me", doctor);
  const found = page.locator('[data-testid="me-row"][data-peer$="pat812"]');
  await found.waitFor();
  const directions = await found.evaluate((row) => ["strong", ".content"].map((selector) => getComputedStyle(row.querySelector(selector)).direction));
  assert.deepEqual(directions, ["rtl", "rtl"]);
  // The question mark ends the sentence, so it stands left of everything.
  const [mark, first] = await found.locator(".content").evaluate((content) => {
    const text = content.firstChild;
    const left = (at) => { const range = document.createRange(); range.setStart(text, at); range.setEnd(text, at + 1); return range.getBoundingClientRect().left; };
    return [left(text.length - 1), left(0)];
  });
  assert.ok(mark < first, `${mark} ${first}`);
  await page.getByTestId("me-search").fill("נועה");
  assert.equal(await page.getByTestId("me-search").evaluate((input) => getComputedStyle(input).direction), "rtl");
  await found.waitFor();
  assert.deepEqual(wrong, []);
});

test("a title that does not know all rows says so", async () => {
  const doctor = { user_id: `doc-many-${process.pid}` };
  for (const n of upTo(60)) await write({ contact_id: `pat-many-${process.pid}-${n}` }, doctor, ["Good morning"]);
  const { page } = await open("/");
  await signIn(page, "me", doctor);
  await page.waitForFunction(() => document.title === "(50+) EHR chat");
  await page.getByRole("button", { name: "Show more" }).click();
  await page.waitForFunction(() => document.title === "(60) EHR chat");
});
