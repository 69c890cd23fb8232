// Swagger UI at `/docs`, in a real browser, without internet.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, open, shut } from "./support/browser.js";
import { BASE, token } from "../sdk/system.js";

before(launch);
after(shut);

const served = await (await fetch(`${BASE}/openapi.json`)).json();
const operations = Object.entries(served.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));

test("Swagger UI renders without internet and shows every operation in the order of use", async () => {
  const { page, wrong } = await open("/docs");
  await page.locator(".opblock").first().waitFor();
  const shown = await page.locator(".opblock").evaluateAll((blocks) => blocks.map((block) =>
    `${block.querySelector(".opblock-summary-method").textContent.toLowerCase()} ${block.querySelector("[data-path]").dataset.path}`));
  assert.ok(operations.length >= 7);
  assert.deepEqual(shown.toSorted(), operations.toSorted());
  const tags = await page.locator(".opblock-tag").evaluateAll((all) => all.map(({ dataset }) => dataset.tag));
  assert.deepEqual(tags, served.tags.map(({ name }) => name));
  assert.deepEqual(wrong, []);
});

test("one click gives a demonstration token, and every operation can be tried out with its examples", async () => {
  const { page, wrong } = await open("/docs");
  await page.getByRole("button", { name: "Be the doctor doc123" }).click();
  await page.getByRole("status").filter({ hasText: "You are the doctor doc123 for an hour." }).waitFor();
  // A person pastes this one: no caller gets an administrator's token.
  const admin = token({ user_id: "backend" }, { role: "service", admin: true });
  await page.evaluate((admin) => globalThis.ui.preauthorizeApiKey("adminToken", admin), admin);
  const blocks = page.locator(".opblock");
  for (let index = 0; index < operations.length; index += 1) {
    const block = blocks.nth(index);
    await block.locator(".opblock-summary-control").click();
    await block.getByRole("button", { name: "Try it out" }).click();
    await block.getByRole("button", { name: "Execute" }).click();
    const status = await block.locator(".live-responses-table .response .response-col_status").first().textContent();
    assert.match(status, /^2\d\d/, await block.locator(".opblock-summary").textContent());
    await block.locator(".opblock-summary-control").click();
  }
  await page.getByRole("button", { name: "Be the patient pat456" }).click();
  await page.getByRole("status").filter({ hasText: "You are the patient pat456 for an hour." }).waitFor();
  assert.deepEqual(wrong, []);
});
