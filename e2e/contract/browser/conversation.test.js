// A conversation in the console: older messages, hostile content, rejected messages, and intermediaries that answer in the server's place.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  apartFromTheNetwork, converse, launch, message, open, part, problem, send, seqs, shut, signIn, state, upTo, write,
} from "./support/browser.js";
import { pair } from "../sdk/system.js";

before(launch);
after(shut);

test("the inbox counts, searches, and opens a conversation at the line of new messages", async () => {
  const { doctor, patient } = pair();
  const other = pair();
  await write(patient, doctor, upTo(130).map((n) => `entry ${n}.`));
  await write(other.patient, doctor, ["Could I move my appointment?"]);
  const { page, wrong } = await open("/");
  await signIn(page, "me", doctor);
  const rows = page.getByTestId("me-row");
  await page.locator('[data-testid="me-row"][data-unread="130"]').waitFor();
  assert.equal(await rows.count(), 2);
  assert.match(await rows.first().textContent(), /appointment/, "newest activity first");
  await page.getByTestId("me-search").fill(patient.contact_id);
  assert.equal(await rows.count(), 1);
  await page.getByTestId("me-search").fill("no such thing");
  await page.getByText("No conversation matches.").waitFor();
  await page.getByTestId("me-search").fill("");
  await rows.filter({ hasText: "entry 130." }).click();

  const list = part(page, "me", "messages");
  await list.locator(".unread-line").waitFor();
  await list.locator(`.row:has(.unread-line) article[data-state="read"]`).waitFor();
  assert.ok(await rows.nth(1).getAttribute("data-unread") !== "0", "what was not seen is not read");
  assert.deepEqual(wrong, []);
});

test("content stays text and keeps its lines", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/#both");
  await signIn(page, "doctor", doctor);
  await signIn(page, "patient", patient);
  const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
  await send(page, "doctor", hostile);
  await message(page, "patient", hostile, "read");
  assert.deepEqual(await part(page, "patient", "messages").locator("h3").allTextContents(), ["Today"]);
  assert.equal(await part(page, "patient", "messages").locator("img, script").count(), 0);
  assert.notEqual(await page.title(), "owned");
  await part(page, "doctor", "input").focus();
  await page.keyboard.type("first line");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("second line");
  await page.keyboard.press("Enter");
  await message(page, "patient", "second line", "read");
  assert.equal(await part(page, "patient", "messages").locator("article p").last().textContent(), "first line\nsecond line");
  assert.deepEqual(wrong, []);
});

test("a rejected message shows why and can be retried or discarded", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await open("/");
  await signIn(page, "me", doctor);
  await converse(page, "me", patient);
  await page.route("**/chat/send", (route) => route.fulfill(problem(422, "not today")));
  await send(page, "me", "a first try");
  const failed = await message(page, "me", "a first try", "failed");
  assert.match(await failed.textContent(), /Not sent: not today/);
  await send(page, "me", "to be thrown away");
  const thrown = await message(page, "me", "to be thrown away", "failed");
  await thrown.getByText("Discard").click();
  await thrown.waitFor({ state: "detached" });
  await page.unroute("**/chat/send");
  await failed.getByText("Try again").click();
  await message(page, "me", "a first try", "sent");
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("intermediary pages fail no message and end no conversation", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { page, wrong } = await open("/");
  await page.route(/\/chat\/(history|send)/, (route) => route.fulfill({ status: 404, contentType: "text/html", body: "<h1>Nothing here</h1>" }));
  await signIn(page, "me", doctor);
  await page.getByTestId("me-row").click();
  await state(page, "me", "incomplete");
  await page.getByTestId("me-connection").filter({ hasText: "cannot be loaded" }).waitFor();
  await send(page, "me", "Nice to hear from you");
  await message(page, "me", "Nice to hear from you", "sending");
  await page.unroute(/\/chat\/(history|send)/);
  await message(page, "me", "Nice to hear from you", "sent");
  await message(page, "me", "Good morning", "read");
  await state(page, "me", "live");
  await page.getByTestId("me-connection").waitFor({ state: "hidden" });
  assert.deepEqual(await seqs(page, "me"), [1, 2]);
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});
