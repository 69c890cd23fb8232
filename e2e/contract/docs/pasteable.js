// Pastes the shell blocks of documents into one bash per document. A line fails the document when its command fails or an HTTP
// response is an error. The system under test is that of `with_stack`. Its address and its tokens replace those of `make run`.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

const { BASE_URL, WS_URL, STACK_ENV, DOCS_TARGET, DOCS_TOOLS } = process.env;
const secret = /^JWT_SECRET=(.*)$/m.exec(readFileSync(STACK_ENV, "utf8"))[1];

// The differences between this shell and a reader's: the address of the system, the signer of tokens, and a WebSocket client that ends
// with its first frame.
const PRELUDE = `
set -eEuo pipefail
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
make() {
    local name
    for name in "$@"; do case $name in SUB=* | ROLE=* | LOCATION=*) local "$name" ;; -s | token) ;; *) return 64 ;; esac; done
    JWT_SECRET=$DOCS_SECRET "$DOCS_TARGET/debug/api-service" token --sub "$SUB" --role "$ROLE" --location "$LOCATION" --ttl 3600
}
curl() { command curl --fail-with-body "$@"; }
npx() {
    local program=$1
    shift
    case $program in
    wscat) node "$DOCS_LISTENER" "$@" ;;
    newman) "$DOCS_TOOLS/node_modules/.bin/newman" "$@" --env-var "base_url=$BASE_URL" --color off ;;
    *) return 64 ;;
    esac
}
`;

function blocks(path) {
  const text = readFileSync(path, "utf8");
  return [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, block]) => block);
}

function run(script) {
  const listener = new URL("listen.js", import.meta.url).pathname;
  const env = { ...process.env, DOCS_SECRET: secret, DOCS_LISTENER: listener, DOCS_TOOLS, DOCS_TARGET };
  return new Promise((done) => {
    const bash = spawn("bash", ["-s"], { env, stdio: ["pipe", "pipe", "inherit"] });
    let output = "";
    bash.stdout.on("data", (data) => { output += data; });
    bash.on("close", (code) => done({ code, output }));
    bash.stdin.end(script);
  });
}

let passed = 0;
let failed = 0;
for (const path of process.argv.slice(2)) {
  const all = blocks(path).map((block) => block.replaceAll("ws://localhost:8080/ws", WS_URL).replaceAll("http://localhost:8080", BASE_URL));
  const { code, output } = await run(PRELUDE + all.map((block, number) => `${block}\necho; echo "pasted ${number}"\n`).join(""));
  const pasted = (output.match(/^pasted \d+$/gm) ?? []).length;
  passed += pasted;
  if (code !== 0 || pasted !== all.length || all.length === 0) {
    failed += Math.max(1, all.length - pasted);
    console.error(`${path}: ${pasted} of ${all.length} blocks work\n${output}`);
  }
}
console.log(`test-docs/pasteable: ${passed} passed, ${failed} failed`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
