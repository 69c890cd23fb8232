// The real system for tests of the SDK: tokens, faults, and a connection that can be cut.

import { createHmac } from "node:crypto";
import { once } from "node:events";
import { watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer as createHttpServer, request as ask } from "node:http";
import { connect as dial, createServer } from "node:net";
import { dirname } from "node:path";
import { Transform } from "node:stream";

import { connect } from "../../../clients/javascript/src/index.js";

const LIMIT_MS = 60_000;

export async function env() {
  const lines = (await readFile(process.env.STACK_ENV, "utf8")).trim().split("\n");
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}

const first = await env();
export const BASE = first.BASE_URL;

/** A token as an EHR would issue it. */
export function token(who, { location = "loc1", ttl = 3_600, ...more } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub: who.user_id ?? who.contact_id, role: who.user_id ? "user" : "contact", locations: [location], iat: now, exp: now + ttl, ...more };
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", first.JWT_SECRET).update(signed).digest("base64url")}`;
}

/** A conversation of its own for each test. */
let places = 0;
export function pair() {
  const name = `sdk-${process.pid}-${++places}`;
  return { doctor: { user_id: `doc-${name}` }, patient: { contact_id: `pat-${name}` } };
}

/** A client that is closed after the test. */
export async function client(t, who, options = {}) {
  const chat = await connect({ url: BASE, token: token(who), ...options });
  t.after(() => chat.close());
  return chat;
}

/** A clock whose time passes faster, so that a test need not wait for the SDK's limits. */
export function fastClock(speed) {
  return {
    now: () => Date.now(), elapsed: () => performance.now() * speed,
    after: (ms, run) => {
      const timer = setTimeout(run, ms / speed);
      return () => clearTimeout(timer);
    },
  };
}

/** Waits until `check` returns a value. It checks after each event. */
export function until(emitter, what, check) {
  return new Promise((resolve, reject) => {
    const stop = [];
    const end = (settle, value) => { for (const off of stop) off(); settle(value); };
    const look = () => { const found = check(); if (found) end(resolve, found); };
    for (const name of ["change", "state"]) stop.push(emitter.on(name, look));
    const timer = setTimeout(() => end(reject, new Error(`not within ${LIMIT_MS} ms: ${what}; state ${emitter.state} ${emitter.error ?? ""}`)), LIMIT_MS);
    stop.push(() => clearTimeout(timer));
    look();
  });
}

export const live = (emitter) => until(emitter, "live", () => emitter.state === "live" && emitter.loaded);

/** Kills, and waits until the stack has started another one in its place. */
export async function kill(name, index = 0) {
  const pid = (all) => all[name].split(",")[index];
  const dead = pid(await env());
  const watcher = watch(dirname(process.env.STACK_ENV)); // before the kill
  const signal = AbortSignal.timeout(LIMIT_MS);
  try {
    process.kill(Number(dead), "SIGKILL");
    for (;;) {
      const changed = once(watcher, "change", { signal });
      changed.catch(() => {}); // the last one has no other handler
      if (pid(await env()) !== dead) return;
      await changed;
    }
  } finally {
    watcher.close();
  }
}

/** One command to Redis. */
export async function redis(command) {
  const url = new URL((await env()).REDIS_URL);
  const socket = dial(Number(url.port), url.hostname);
  const auth = url.password ? `AUTH ${url.password}\r\n` : "";
  socket.write(`${auth}${command}\r\nQUIT\r\n`);
  let answer = "";
  socket.on("data", (data) => { answer += data; });
  await once(socket, "close");
  if (answer.includes("-")) throw new Error(answer);
}

/** A connection to the system that can be cut and restored. */
export async function line(t) {
  const { hostname, port } = new URL(BASE);
  const ends = new Set();
  let up = true;
  const server = createServer((near) => {
    if (!up) return void near.destroy();
    const far = dial(Number(port), hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      ends.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => { ends.delete(one); other.destroy(); });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => { up = false; for (const end of ends) end.destroy(); };
  t.after(() => { cut(); server.close(); });
  return { url: `http://127.0.0.1:${server.address().port}`, cut, mend: () => { up = true; } };
}

/**
 * An intermediary, as a proxy or a firewall is. It can respond in the server's place (`page`), block HTTP or sockets, and limit
 * responses to a number of bytes per second (`speed`).
 */
export async function intermediary(t) {
  const { hostname, port } = new URL(BASE);
  const between = { url: "", page: null, http: true, sockets: true, speed: null };
  const ends = new Set();
  const server = createHttpServer((request, response) => {
    if (!between.http) return void request.socket.destroy();
    if (between.page) {
      request.resume();
      const { status, type, text } = between.page;
      return void response.writeHead(status, { "Content-Type": type }).end(text);
    }
    const onward = ask({ hostname, port, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      (between.speed ? answer.pipe(slow(between.speed)) : answer).pipe(response);
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
  server.on("upgrade", (request, near, head) => {
    if (between.page) return void near.end(`HTTP/1.1 ${between.page.status} Page\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    if (!between.sockets) return void near.destroy();
    const far = dial(Number(port), hostname);
    const lines = [`${request.method} ${request.url} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    far.write(`${lines.join("\r\n")}\r\n\r\n`);
    far.write(head);
    for (const [one, other] of [[near, far], [far, near]]) {
      ends.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => { ends.delete(one); other.destroy(); });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  between.url = `http://127.0.0.1:${server.address().port}`;
  // They stay open, and pass nothing on any more.
  between.freezeSockets = () => { for (const end of ends) { end.unpipe(); end.pause(); } };
  between.cutSockets = () => { for (const end of ends) end.destroy(); };
  t.after(() => { between.cutSockets(); server.close(); server.closeAllConnections(); });
  return between;
}

/** Limits a stream. @param {number} speed In bytes per second. */
function slow(speed) {
  const piece = Math.max(Math.floor(speed / 10), 1);
  return new Transform({
    transform(chunk, _, done) {
      const next = (at) => {
        if (at >= chunk.length) return done();
        this.push(chunk.subarray(at, at + piece));
        setTimeout(next, 100, at + piece);
      };
      next(0);
    },
  });
}
