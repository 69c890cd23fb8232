// The package as integrators get it: packed, installed from the tarball, built, type-checked and run.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, test } from "node:test";
import { promisify } from "node:util";

import { chromium } from "playwright-core";

import { BASE, pair, token } from "../sdk/system.js";

const run = promisify(execFile);
const { PACKAGE, WORK, TOOLS, CHROMIUM } = process.env;
const here = new URL(".", import.meta.url).pathname;
const machine = process.arch;

let tarball;

/** A new project with the installed package, and what else its programs need. */
async function project(name, files, others = []) {
  const folder = join(WORK, "projects", name);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), JSON.stringify({ name, private: true, type: "module" }));
  for (const file of files) await cp(join(here, file), join(folder, file.split("/").at(-1)), { recursive: true });
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--loglevel", "error", tarball], { cwd: folder });
  await mkdir(join(folder, "node_modules", "@types"), { recursive: true });
  for (const other of others) await symlink(join(TOOLS, "node_modules", other), join(folder, "node_modules", other));
  return folder;
}

function setting() {
  const { doctor, patient } = pair();
  return { url: BASE, doctor: { who: doctor, token: token(doctor) }, patient: { who: patient, token: token(patient) } };
}

const expected = ({ doctor }) => ({ seq: 1, content: "Good morning", peer: doctor.who, status: "read", draft: "", refused: "invalid_argument" });
const node = (version) => join(TOOLS, "node_modules", `node-${version}-${machine}`, "bin", "node");

before(async () => {
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", WORK, PACKAGE]);
  tarball = join(WORK, JSON.parse(stdout)[0].filename);
});

test("the tarball has the licence, the documents, the types and each exported file, and no tests", async () => {
  const folder = join(await project("contents", []), "node_modules", "ehr-chat-client");
  const manifest = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  assert.equal(manifest.license, "MIT");
  assert.match(manifest.repository.url, /placeholder/);
  assert.equal(await readFile(join(folder, "LICENSE"), "utf8"), await readFile(join(PACKAGE, "../../LICENSE"), "utf8"));
  assert.match(await readFile(join(folder, "README.md"), "utf8"), /^# /);
  for (const [name, target] of Object.entries(manifest.exports)) {
    for (const file of typeof target === "string" ? [target] : Object.values(target)) assert.ok(await readFile(join(folder, file), "utf8"), `${name}: ${file}`);
  }
  assert.deepEqual((await readdir(folder)).filter((name) => /test|tsconfig/.test(name)), []);
});

for (const version of [20, 22]) {
  test(`two participants chat in Node.js ${version}`, async () => {
    const folder = await project(`node-${version}`, ["chat.js", "node.js"], ["ws"]);
    const given = setting();
    const { stdout } = await run(node(version), ["node.js"], { cwd: folder, env: { CHAT: JSON.stringify(given) } });
    const { version: ran, ...seen } = JSON.parse(stdout);
    assert.equal(Number(ran.split(".")[0]), version);
    assert.deepEqual(seen, expected(given));
  });
}

for (const mode of ["nodenext", "bundler"]) {
  test(`strict TypeScript accepts the types with moduleResolution ${mode}, and the program runs`, async () => {
    const folder = await project(`typescript-${mode}`, ["typescript/main.ts", "typescript/page.ts", `typescript/tsconfig.${mode}.json`], ["@types/node", "undici-types"]);
    await run(process.execPath, [join(TOOLS, "node_modules/typescript/bin/tsc"), "--project", `tsconfig.${mode}.json`], { cwd: folder })
      .catch(({ stdout }) => assert.fail(stdout));
    const { stdout } = await run(node(22), [join(mode, "main.js")], { cwd: folder, env: { CHAT: JSON.stringify(setting()) } });
    assert.deepEqual(JSON.parse(stdout), { seq: 1, content: "from TypeScript", draft: "", marked: 0, isThere: true, state: "closed", others: 5, states: true });
  });
}

test("a Vite project builds the package, and two participants chat in a browser", async (t) => {
  const folder = await project("vite", ["vite/index.html", "vite/main.js", "chat.js"]);
  await run(process.execPath, [join(TOOLS, "node_modules/vite/bin/vite.js"), "build", "--base", "/app/", "--logLevel", "error"], { cwd: folder });
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
  t.after(() => browser.close());
  // A page that the test fulfils counts as one of the internet, which Chromium keeps from this machine's ports.
  const page = await browser.newPage({ permissions: ["local-network-access"] });
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  // The built page at the chat's own origin.
  await page.route(`${BASE}/app/**`, (route) => route.fulfill({ path: join(folder, "dist", new URL(route.request().url()).pathname.slice("/app/".length)) }));
  await page.goto(`${BASE}/app/index.html`);
  await page.waitForFunction(() => globalThis.chat);
  const given = setting();
  assert.deepEqual(await page.evaluate((all) => globalThis.chat(all), given), expected(given));
  assert.equal(await page.evaluate(() => document.createElement("ehr-chat") instanceof globalThis.element.EhrChat), true, "the element is in the bundle");
  assert.deepEqual(wrong, []);
});
