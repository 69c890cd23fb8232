// The token endpoint of an EHR, in Node.js. The chat page asks it for a token: `GET /my-chat-token` answers with a JWT as plain text.
//
//   npm install jose@6
//   JWT_SECRET=… PORT=4000 node token-endpoint.mjs

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";

import { SignJWT } from "jose";

const LIFETIME_SECONDS = 600; // the page asks again before a token ends
const key = new TextEncoder().encode(process.env.JWT_SECRET); // what the chat services have as JWT_SECRET

// Replace this by the sessions of your EHR: who is signed in, and in which hospitals or clinics.
const SESSIONS = new Map([
  ["demo-doctor", { sub: "doc123", role: "user", locations: ["loc1"] }],
  ["demo-patient", { sub: "pat456", role: "contact", locations: ["loc1"] }],
]);

/** The person who is signed in, by the session cookie. Never by a parameter that the page can choose. */
function signedIn(request) {
  const cookies = (request.headers.cookie ?? "").split("; ");
  const session = cookies.find((cookie) => cookie.startsWith("session="))?.slice("session=".length);
  return SESSIONS.get(session);
}

/** `jti` lets your EHR revoke this one token, `iat` lets it revoke all tokens of a person. */
const sign = (person) => new SignJWT(person)
  .setProtectedHeader({ alg: "HS256" })
  .setIssuedAt()
  .setExpirationTime(`${LIFETIME_SECONDS} seconds`)
  .setJti(randomUUID())
  .sign(key);

const server = createServer(async (request, response) => {
  const answer = (status, text) => response.writeHead(status, { "Content-Type": "text/plain", "Cache-Control": "no-store" }).end(text);
  if (request.url !== "/my-chat-token") return answer(404, "This path does not exist.");
  if (request.method !== "GET") return answer(405, "Use GET.");
  const person = signedIn(request);
  if (!person) return answer(401, "Sign in first.");
  answer(200, await sign(person));
});
server.listen(Number(process.env.PORT ?? 4000), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/my-chat-token`));
