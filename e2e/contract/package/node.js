// Runs the chat in Node.js, with the setting of the environment.

import { chat } from "./chat.js";

// Node.js 20 has no WebSocket of its own.
const WebSocket = globalThis.WebSocket ?? (await import("ws")).default;
console.log(JSON.stringify({ version: process.versions.node, ...await chat({ ...JSON.parse(process.env.CHAT), WebSocket }) }));
