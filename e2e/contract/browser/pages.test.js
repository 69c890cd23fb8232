// The page at `/` and Swagger UI at `/docs`, in a real browser. In every test: no other host is asked for anything,
// nothing breaks the content security policy, no script fails.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

const BASE = process.env.BASE_URL;
const TOKENS = { doctor: process.env.DOCTOR_TOKEN, patient: process.env.PATIENT_TOKEN };
const LIMIT = 15_000;

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
});
after(() => browser?.close());

/** Opens a page, and gives it with everything about it that should not be. */
async function open(path) {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(LIMIT);
  const wrong = [];
  page.on("console", (message) => { if (message.type() === "error") wrong.push(`console: ${message.text()}`); });
  page.on("pageerror", (error) => wrong.push(`script: ${error}`));
  page.on("request", (request) => {
    const { protocol, host } = new URL(request.url());
    if (!["data:", "blob:"].includes(protocol) && host !== new URL(BASE).host) wrong.push(`request: ${request.url()}`);
  });
  page.on("websocket", (socket) => { if (new URL(socket.url()).host !== new URL(BASE).host) wrong.push(`socket: ${socket.url()}`); });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  const answer = await page.goto(BASE + path);
  assert.equal(answer.status(), 200);
  return { page, wrong };
}

async function connect(page, who) {
  await page.getByTestId(`${who}-token`).fill(TOKENS[who]);
  await page.getByTestId(`${who}-connect`).click();
  await page.locator(`[data-testid="${who}-state"][data-state="live"]`).waitFor();
}

async function send(page, who, text) {
  await page.getByTestId(`${who}-input`).fill(text);
  await page.getByTestId(`${who}-send`).click();
}

/** The one message with this text in somebody's pane, once it is in this state. */
async function message(page, who, text, state) {
  const found = page.getByTestId(`${who}-messages`).locator("[data-seq]").filter({ hasText: text });
  await found.and(page.locator(`[data-state="${state}"]`)).waitFor();
  assert.equal(await found.count(), 1);
  return found;
}

test("doctor and patient chat, ticks advance to read, and a reload keeps the history", async () => {
  const { page, wrong } = await open("/");
  await connect(page, "doctor");
  await connect(page, "patient");

  await send(page, "doctor", "How are you today?");
  const sent = await message(page, "doctor", "How are you today?", "read"); // The patient's pane is in sight.
  const seen = await message(page, "patient", "How are you today?", "read");
  assert.equal(await seen.getAttribute("data-id"), await sent.getAttribute("data-id"));
  await send(page, "patient", "Much better, thank you");
  await message(page, "patient", "Much better, thank you", "read");
  await message(page, "doctor", "Much better, thank you", "read");
  const seqs = await page.getByTestId("doctor-messages").locator("[data-seq]").evaluateAll((all) => all.map((one) => Number(one.dataset.seq)));
  assert.deepEqual(seqs, seqs.map((_, index) => seqs[0] + index), "in order, without gaps");

  await page.reload();
  await connect(page, "doctor");
  await message(page, "doctor", "How are you today?", "read");
  await message(page, "doctor", "Much better, thank you", "read");
  assert.deepEqual(wrong, []);
});

test("ticks tell sent, delivered and read apart", async () => {
  const doctor = await open("/");
  await connect(doctor.page, "doctor");
  await send(doctor.page, "doctor", "Nobody is there yet");
  await message(doctor.page, "doctor", "Nobody is there yet", "sent");
  // A bare client of the other side, which proves the delivery by itself and reads nothing.
  const { page, wrong } = await open("/docs");
  const socket = await page.evaluateHandle(([url, token]) => new Promise((resolve, reject) => {
    const socket = new WebSocket(url, ["chat.v1", `bearer.${token}`]);
    socket.onmessage = () => resolve(socket);
    socket.onclose = (event) => reject(new Error(`closed: ${event.code}`));
  }), [`${process.env.WS_URL}?location_id=loc1&user_id=doc123&contact_id=pat456`, TOKENS.patient]);
  assert.equal(await socket.evaluate((socket) => socket.protocol), "chat.v1");
  await send(doctor.page, "doctor", "Now somebody is");
  await message(doctor.page, "doctor", "Now somebody is", "delivered");
  const patient = await open("/");
  await connect(patient.page, "patient");
  await message(doctor.page, "doctor", "Now somebody is", "read");
  await message(doctor.page, "doctor", "Nobody is there yet", "read");
  assert.deepEqual([...doctor.wrong, ...patient.wrong, ...wrong], []);
});

test("what somebody writes stays text", async () => {
  const { page, wrong } = await open("/");
  await connect(page, "doctor");
  await connect(page, "patient");
  const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
  await send(page, "doctor", hostile);
  await message(page, "patient", hostile, "read");
  assert.equal(await page.getByTestId("patient-messages").locator("img, script").count(), 0);
  assert.notEqual(await page.title(), "owned");
  assert.deepEqual(wrong, []);
});

test("a refused token is told, and nothing connects", async () => {
  const { page } = await open("/");
  await page.getByTestId("doctor-token").fill(`${TOKENS.doctor}x`);
  await page.getByTestId("doctor-connect").click();
  await page.locator('[data-testid="doctor-state"][data-state="refused"]').waitFor();
  assert.match(await page.getByTestId("doctor-error").textContent(), /401/);
});

test("Swagger UI renders without internet and shows every operation", async () => {
  const { page, wrong } = await open("/docs");
  const document = await (await fetch(`${BASE}/openapi.json`)).json();
  const operations = Object.entries(document.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
  await page.locator(".opblock").first().waitFor();
  const shown = await page.locator(".opblock").evaluateAll((blocks) => blocks.map((block) =>
    `${block.querySelector(".opblock-summary-method").textContent.toLowerCase()} ${block.querySelector("[data-path]").dataset.path}`));
  assert.ok(operations.length >= 7);
  assert.deepEqual(shown.sort(), operations.sort());
  assert.deepEqual(wrong, []);
});
