// With this proxy the chat has the origin of the page, so neither needs the other's address. In production your own proxy does the same.

import { defineConfig } from "vite";

const chat = process.env.CHAT_URL ?? "http://localhost:8080";

export default defineConfig({
  server: {
    proxy: {
      "/chat": chat, // the HTTP API
      "/ws": { target: chat, ws: true }, // the WebSocket
      "/dev/token": chat, // tokens, in development only
    },
  },
});
