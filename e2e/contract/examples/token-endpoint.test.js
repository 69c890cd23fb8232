// The token endpoints of examples/token-endpoint. Each gives the person who is signed in a token that the chat accepts, and refuses all others.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";

import { BASE, env } from "../sdk/system.js";

const folder = new URL("../../../examples/token-endpoint/", import.meta.url);
const PROGRAMS = {
  "Node.js": [process.execPath, "token-endpoint.mjs"],
  Python: [process.env.PYTHON, "token_endpoint.py"],
  Java: ["java", "TokenEndpoint.java"],
};
const { JWT_SECRET } = await env();

/** Starts a program on a free port. Its first line is its address. */
async function start(t, [command, file]) {
  const program = spawn(command, [file], { cwd: folder, env: { ...process.env, JWT_SECRET, PORT: "0" }, stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => program.kill());
  const [line] = await once(createInterface(program.stdout), "line");
  return new URL(line);
}

const claimsOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

for (const [language, program] of Object.entries(PROGRAMS)) {
  test(`the token endpoint in ${language}`, async (t) => {
    const url = await start(t, program);
    const get = (cookie, options) => fetch(url, { headers: cookie ? { Cookie: cookie } : {}, ...options });

    for (const [session, sub, role] of [["demo-doctor", "doc123", "user"], ["demo-patient", "pat456", "contact"]]) {
      const response = await get(`theme=dark; session=${session}`);
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("cache-control"), "no-store");
      const token = await response.text();
      const claims = claimsOf(token);
      assert.deepEqual({ sub: claims.sub, role: claims.role, locations: claims.locations }, { sub, role, locations: ["loc1"] });
      assert.equal(claims.exp - claims.iat, 600);
      assert.ok(Math.abs(claims.iat - Date.now() / 1000) < 60);
      assert.match(claims.jti, /^[0-9a-f-]{36}$/);
      const inbox = await fetch(`${BASE}/chat/conversations?location_id=loc1`, { headers: { Authorization: `Bearer ${token}` } });
      assert.equal(inbox.status, 200, "the chat accepts the token");
    }
    const [one, another] = await Promise.all([1, 2].map(() => get("session=demo-doctor").then((response) => response.text())));
    assert.notEqual(claimsOf(one).jti, claimsOf(another).jti, "each token can be revoked alone");

    for (const cookie of [null, "session=", "session=unknown", "sessionx=demo-doctor", "a=session=demo-doctor", ";;=;"]) {
      const response = await get(cookie);
      assert.equal(response.status, 401, `with the cookie ${cookie}`);
      assert.doesNotMatch(await response.text(), /eyJ/);
    }
    assert.equal((await get("session=demo-doctor", { method: "POST" })).status, 405);
    assert.equal((await fetch(new URL("/other", url))).status, 404);
  });
}
