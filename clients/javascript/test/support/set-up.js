// Creates a client, a server and a clock for one test.

import { connect } from "../../src/index.js";
import { FakeClock } from "./fake-clock.js";
import { DOCTOR, FakeServer, PATIENT, token } from "./fake-server.js";

export async function setUp(options = {}) {
  const clock = new FakeClock();
  const server = new FakeServer(clock);
  options.prepare?.(server);
  const chat = await connect({
    url: "http://chat.test", token: token(DOCTOR), fetch: server.fetch, WebSocket: server.WebSocket, clock, random: () => 0.5, ...options.chat,
  });
  /** Every list of messages that a screen showed. */
  const shown = [];
  function open(peer = PATIENT) {
    const conversation = chat.conversation(peer);
    conversation.on("change", () => shown.push(conversation.messages));
    return conversation;
  }
  return { clock, server, chat, open, shown };
}

export const texts = (conversation) => conversation.messages.map(({ content }) => content);
export const statuses = (conversation) => conversation.messages.map(({ status }) => status);
