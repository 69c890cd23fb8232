// Replaces wscat, with its arguments `-c URL -H "Name: value"`. It connects, waits for the first frame, and ends. It fails unless that
// frame is `ready`.

import { connect } from "node:net";
import { randomBytes } from "node:crypto";

const words = process.argv.slice(2);
const url = new URL(words[words.indexOf("-c") + 1]);
const headers = words.flatMap((word, place) => (words[place - 1] === "-H" ? [word] : []));
if (!words.includes("-c")) process.exit(64);

const socket = connect(Number(url.port), url.hostname, () => {
  const head = [`GET ${url.pathname}${url.search} HTTP/1.1`, `Host: ${url.host}`, "Connection: Upgrade", "Upgrade: websocket",
    "Sec-WebSocket-Version: 13", `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`, ...headers];
  socket.write(`${head.join("\r\n")}\r\n\r\n`);
});
let received = "";
socket.on("data", (data) => {
  received += data.toString("latin1");
  if (received.includes('{"type":"ready"')) process.exit(0);
  if (!received.startsWith("HTTP/1.1 101".slice(0, received.length))) {
    console.error(received);
    process.exit(1);
  }
});
socket.on("close", () => process.exit(1));
socket.on("error", () => process.exit(1));
socket.setTimeout(20_000, () => process.exit(1));
