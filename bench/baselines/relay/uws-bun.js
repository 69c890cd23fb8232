// uWebSockets as Bun has it, with its own topics.
import { channelOf, port, subscriptions } from './subscriptions.js';

let server;
const { join, leave } = await subscriptions((channel, payload) => server.publish(channel, payload));

server = Bun.serve({
  hostname: '127.0.0.1',
  port,
  fetch(request, server) {
    const { pathname, search } = new URL(request.url);
    const channel = channelOf(search);
    if (pathname !== '/ws' || !channel) return new Response(null, { status: 400 });
    if (!server.upgrade(request, { data: { channel } })) return new Response(null, { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    sendPings: false,
    backpressureLimit: 1 << 30,
    open(socket) {
      socket.subscribe(socket.data.channel);
      join(socket.data.channel);
    },
    message() {},
    close(socket) {
      leave(socket.data.channel);
    },
  },
});
console.log('ready');
