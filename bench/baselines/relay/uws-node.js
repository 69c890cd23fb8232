// uWebSockets under Node.js, with its own topics. The native library itself: the package's entry falls back to
// JavaScript, silently, where that does not load.
import { createRequire } from 'node:module';
import { channelOf, fail, port, subscriptions } from './subscriptions.js';

const { platform, arch, versions } = process;
const uWS = createRequire(import.meta.url)(
  `@trufflesuite/uws-js-unofficial/dist/uws_${platform}_${arch}_${versions.modules}.node`,
);

const app = uWS.App();
const { join, leave } = await subscriptions((channel, payload) => app.publish(channel, payload, false, false));

app.ws('/ws', {
  compression: 0,
  maxBackpressure: 0, // without a limit, like ws
  idleTimeout: 0,
  sendPingsAutomatically: false,
  upgrade(response, request, context) {
    const channel = channelOf(request.getQuery());
    if (!channel) return response.writeStatus('400 Bad Request').end();
    response.upgrade(
      { channel },
      request.getHeader('sec-websocket-key'),
      request.getHeader('sec-websocket-protocol'),
      request.getHeader('sec-websocket-extensions'),
      context,
    );
  },
  open(socket) {
    socket.subscribe(socket.channel);
    join(socket.channel);
  },
  close(socket) {
    leave(socket.channel);
  },
});
app.listen('127.0.0.1', port, (listening) => {
  if (!listening) fail(new Error(`cannot listen on ${port}`));
  console.log('ready');
});
