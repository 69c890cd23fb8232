// A program that imports the SDK from the service's address has its types: each module names them in `X-TypeScript-Types`, as Deno
// reads them. TypeScript's own compiler loads no address, so the test saves what Deno would load, and maps the address to it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const { BASE_URL } = process.env;
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");

const program = (served) => `
import { connect, type Message } from "${BASE_URL}/sdk/index.js";
import { EhrChat } from "${BASE_URL}/sdk/element.js";
const chat = await connect({ url: "${BASE_URL}", token: async () => "a token" });
const sent: Message = await chat.conversation({ contact_id: "pat456" }).send("Hello");
const element = new EhrChat();
element.chat = chat;
// @ts-expect-error a message has no such member
sent.nonsense;
${served}`;

/** Saves the types of a module, and of all that they name. Returns how many files there are. */
async function save(folder, modules) {
  const known = new Set(modules.map((module) => new URL(module, BASE_URL).href));
  for (const module of known) {
    const { headers, status } = await fetch(module, { method: "HEAD" });
    assert.equal(status, 200, module);
    const address = new URL(headers.get("x-typescript-types"), module);
    const text = await (await fetch(address)).text();
    const file = join(folder, address.pathname);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
    for (const [, one, other] of text.matchAll(/from "([^"]+)"|import\("([^"]+)"\)/g)) known.add(new URL(one ?? other, address).href);
  }
  return known.size;
}

test("a program that imports from the address has the types", async () => {
  const folder = await mkdtemp(join(dirname(fileURLToPath(import.meta.url)), "served-"));
  assert.ok(await save(folder, ["/sdk/index.js", "/sdk/element.js"]) > 20);
  const compilerOptions = {
    strict: true, noEmit: true, target: "ES2023", module: "ESNext", moduleResolution: "Bundler", lib: ["ES2023", "DOM", "DOM.Iterable"], types: [],
    paths: { [`${BASE_URL}/sdk/*`]: ["./sdk/*"] },
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["page.ts"] }));
  const compile = async (served) => {
    await writeFile(join(folder, "page.ts"), program(served));
    return promisify(execFile)(process.execPath, [tsc, "--project", folder]).then(() => "", ({ stdout }) => stdout);
  };
  assert.equal(await compile(""), "");
  assert.match(await compile("await connect({});"), /page\.ts.*error TS/);
});
