// Every relative link of every document leads to a file of this repository, and to a heading of it when it names one.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const documents = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"], { encoding: "utf8" })
  .split("\n").filter((path) => path && existsSync(path));

/** The anchors of a document, as GitHub makes them of headings. */
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

let passed = 0;
const wrong = [];
for (const path of documents) {
  const prose = readFileSync(path, "utf8").replace(/^ *```[\s\S]*?^ *```/gm, "").replace(/`[^`\n]*`/g, "");
  for (const [, target] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [file, anchor] = target.split("#");
    const found = file === "" ? path : normalize(join(dirname(path), file));
    const isThere = existsSync(found) && (!anchor || (statSync(found).isFile() && anchors(found).has(anchor)));
    if (isThere) passed += 1;
    else wrong.push(`${path}: ${target}`);
  }
}
for (const link of wrong) console.error(`leads nowhere: ${link}`);
console.log(`test-docs/links: ${passed} passed, ${wrong.length} failed`);
process.exit(wrong.length > 0 || passed === 0 ? 1 : 0);
