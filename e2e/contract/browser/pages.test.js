// Other pages: the one of the SDK's README. Those of the README and of examples/ are tested in ../examples.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { DOCTOR, launch, message, open, PATIENT, send, shut, signIn } from "./support/browser.js";
import { BASE, token } from "../sdk/system.js";

before(launch);
after(shut);

const firstExample = async (path) => /```html\n([\s\S]*?)```/.exec(await readFile(new URL(path, import.meta.url), "utf8"))[1];

test("the ten lines of the SDK's README make a page that chats", async () => {
  const lines = await firstExample("../../../clients/javascript/README.md");
  assert.equal(lines.trim().split("\n").length, 10);
  const { page, wrong, window } = await open("/healthz", { bypassCSP: true }); // another page on this origin
  await window.route(`${BASE}/my-chat-token`, (route) => route.fulfill({ contentType: "text/plain", body: token(DOCTOR) }));
  await page.setContent(lines);
  await page.locator("input").fill("Hello from ten lines");
  await page.locator("input").press("Enter");
  const other = await open("/");
  await signIn(other.page, "me", PATIENT);
  await other.page.getByTestId("me-row").first().click();
  await message(other.page, "me", "Hello from ten lines", "read");
  await page.getByText("Hello from ten lines (read)").waitFor();
  await send(other.page, "me", "Hello to you");
  await page.getByText("Hello to you (").waitFor();
  assert.deepEqual([...wrong, ...other.wrong], []);
});
