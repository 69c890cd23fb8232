// The pages of the README and of examples/, in a browser, each from a port of its own: a newcomer would put them there.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { after, before, test } from "node:test";

import { createServer as createViteServer } from "vite";

import { launch, newPage, shut } from "../browser/support/browser.js";
import { BASE, client, live, until } from "../sdk/system.js";

const root = new URL("../../../", import.meta.url);
const DOCTOR = { user_id: "doc123" };
const PATIENT = { contact_id: "pat456" };

before(launch);
after(shut);

/** Serves one page on a free port of localhost. */
async function serve(t, html) {
  const server = createHttpServer((_, response) => response.writeHead(200, { "Content-Type": "text/html" }).end(html));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `http://localhost:${server.address().port}/`;
}

/** Opens a page. `wrong` collects the errors that it logs. */
async function open(url) {
  const page = await newPage();
  const wrong = [];
  page.on("console", (message) => { if (message.type() === "error") wrong.push(`${message.text()} ${message.location().url}`); });
  page.on("pageerror", (error) => wrong.push(String(error)));
  await page.goto(url);
  return { page, wrong };
}

/** The patient writes and reads while a page of the doctor is open. */
async function chat(t, page) {
  const patient = (await client(t, PATIENT)).conversation(DOCTOR);
  await live(patient);
  const question = `How are you? ${Math.random()}`;
  await page.getByLabel("Message").fill(question);
  await page.getByRole("button", { name: "Send" }).click();
  await until(patient, "the question", () => patient.messages.some(({ content }) => content === question));
  await patient.markRead();
  await page.getByRole("listitem").filter({ hasText: question }).filter({ hasText: "read" }).waitFor();
  const answer = `Better, thank you. ${Math.random()}`;
  await patient.send(answer);
  await page.getByRole("listitem").filter({ hasText: answer }).waitFor();
  return patient;
}

test("the README shows the page of examples/page", async () => {
  const readme = await readFile(new URL("README.md", root), "utf8");
  const [, shown] = /```html\n([\s\S]*?)```/.exec(readme);
  assert.equal(shown, await readFile(new URL("examples/page/index.html", root), "utf8"));
});

test("the README's page chats from another port", async (t) => {
  const html = await readFile(new URL("examples/page/index.html", root), "utf8");
  assert.ok(html.includes('"http://localhost:8080"'), "the address of `make run`");
  const { page, wrong } = await open(await serve(t, html.replace("http://localhost:8080", BASE)));
  await chat(t, page);
  assert.deepEqual(wrong, []);
});

test("the React example chats through Vite's proxy", async (t) => {
  process.env.CHAT_URL = BASE;
  const vite = await createViteServer({
    root: new URL("examples/react/", root).pathname,
    configFile: new URL("examples/react/vite.config.js", root).pathname,
    logLevel: "error",
    server: { port: 0, host: "127.0.0.1" },
  });
  await vite.listen();
  t.after(() => vite.close());
  const { page, wrong } = await open(vite.resolvedUrls.local[0]);
  const patient = await chat(t, page);

  // What the hooks show follows the SDK: the inbox, typing, receipts, a draft.
  await page.getByRole("status").filter({ hasText: "live" }).waitFor();
  patient.typing();
  await page.getByRole("status").filter({ hasText: "typing" }).waitFor();
  const { messages } = patient;
  await until(patient, "the answer is read", () => patient.messages.at(-1).status === "read" && messages.length > 0);

  const other = (await client(t, { contact_id: `pat-react-${process.pid}` })).conversation(DOCTOR);
  await other.send("Good morning");
  await page.getByRole("button", { name: `pat-react-${process.pid} 1 new` }).waitFor();
  await page.getByLabel("Message").fill("An unfinished sentence");
  await page.getByRole("button", { name: `pat-react-${process.pid}` }).click();
  await page.getByRole("listitem").filter({ hasText: "Good morning" }).waitFor();
  assert.equal(await page.getByLabel("Message").inputValue(), "");
  await page.getByRole("button", { name: "pat456" }).click();
  await page.waitForFunction(() => document.querySelector("input")?.value === "An unfinished sentence");
  assert.deepEqual(wrong, []);
});
