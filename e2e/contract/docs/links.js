// Checks that each relative link of each document leads to a file of this repository, and to a heading if it names one. Each file that
// a document names must exist, and so must each test that docs/security.md names.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const git = (...args) => execFileSync("git", args, { encoding: "utf8", maxBuffer: 1 << 26 }).split("\n").filter((line) => line);
const documents = git("ls-files", "--cached", "--others", "--exclude-standard", "*.md").filter((path) => existsSync(path));

/** The anchors of a document, as GitHub generates them from headings. */
function anchors(path) {
  const prose = readFileSync(path, "utf8").replace(/^```[\s\S]*?^```/gm, "");
  const seen = new Map();
  return new Set([...prose.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading]) => {
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const anchor = plain.replace(/[^\p{L}\p{N}\p{M}_ -]/gu, "").replaceAll(" ", "-");
    const count = seen.get(anchor) ?? 0;
    seen.set(anchor, count + 1);
    return count === 0 ? anchor : `${anchor}-${count}`;
  }));
}

/** The files of the repository that a document names, as `folder/file`. The changelog also names files that were. */
function namedFiles(path, text) {
  if (path === "CHANGELOG.md") return [];
  const folders = "api-service|ws-gateway|shared|stack|e2e|bench|clients|deploy|scripts|migrations|docs";
  return [...text.matchAll(new RegExp(`\`((?:${folders})/[\\w./-]+)\``, "g"))].map(([, file]) => file);
}

/** The tests that a review of the security relies on: names of functions, and of modules whose tests all count (`order::*`). */
function namedTests(text) {
  const lists = [...text.matchAll(/^- \*\*Tests:\*\*[^\n]*(?:\n {2}[^\n]*)*/gm)].flatMap(([list]) => [...list.matchAll(/`([\w:*]+)`/g)]);
  return lists.map(([, test]) => test.replace(/::\*$/, "").split("::").at(-1));
}

let passed = 0;
const wrong = [];
const count = (isRight, fault) => {
  if (isRight) passed += 1;
  else wrong.push(fault);
};
const known = new Set([
  ...git("grep", "-hoE", "\\bfn [a-z0-9_]+", "--", "*.rs").map((line) => line.replace("fn ", "")),
  ...git("ls-files", "*.rs").flatMap((file) => file.replace(/\.rs$/, "").split("/").slice(-2)),
]);
const secrets = "deploy/secrets"; // made by deploy/make-secrets
const tests = namedTests(readFileSync("docs/security.md", "utf8"));
if (tests.length < 20) wrong.push(`docs/security.md: ${tests.length} tests found`);
for (const test of tests) count(known.has(test), `docs/security.md: no test ${test}`);
for (const path of documents) {
  const text = readFileSync(path, "utf8");
  for (const file of namedFiles(path, text)) count(existsSync(file) || file.startsWith(secrets), `${path}: no file ${file}`);
  const prose = text.replace(/^ *```[\s\S]*?^ *```/gm, "").replace(/`[^`\n]*`/g, "");
  for (const [, target] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [file, anchor] = target.split("#");
    const found = file === "" ? path : normalize(join(dirname(path), file));
    const isThere = existsSync(found) && (!anchor || (statSync(found).isFile() && anchors(found).has(anchor)));
    count(isThere, `${path}: the link ${target} leads nowhere`);
  }
}
for (const fault of wrong) console.error(fault);
console.log(`test-docs/links: ${passed} passed, ${wrong.length} failed`);
process.exit(wrong.length > 0 || passed === 0 ? 1 : 0);
