// Reads tokens. The SDK verifies no signature: that is the server's task.

import { ChatError } from "../errors.js";
import { keyOf } from "../participants/participant.js";

/** @typedef {import("../types.js").Participant} Participant */

/**
 * The claims of a token that the SDK uses.
 * @param {string} token
 * @returns {{ me: Participant | null, role: string, locations: string[], expiresAt: number | null }}
 */
export function readToken(token) {
  const claims = decodeClaims(token);
  const fhir = /(?:^|\/)(Practitioner|PractitionerRole|Patient|RelatedPerson)\/([^/]+)$/.exec(String(claims.fhirUser ?? ""));
  const role = claims.role ?? (fhir ? (fhir[1].startsWith("Practitioner") ? "user" : "contact") : "");
  const id = claims.role === undefined && fhir ? fhir[2] : claims.sub;
  const me = typeof id !== "string" ? null : role === "user" ? { user_id: id } : role === "contact" ? { contact_id: id } : null;
  const locations = Array.isArray(claims.locations) ? claims.locations.map(String) : [];
  return { me, role, locations, expiresAt: typeof claims.exp === "number" ? claims.exp * 1000 : null };
}

/**
 * A token that can travel in a header and as a subprotocol. A line break or a space in it breaks the request or the handshake, and
 * the browser gives no reason. Throws for such a token, and for the token of another participant.
 * @param {unknown} given
 * @param {Participant | null} owner The participant whose token it must be; null allows any.
 * @returns {string}
 */
export function checkToken(given, owner = null) {
  if (typeof given !== "string" || given === "") throw new ChatError("there is no token: give a JWT as a string that is not empty", { code: "token" });
  const at = given.search(/[^\w.-]/);
  if (at >= 0) {
    const what = /\s/.test(given[at]) ? "a line break or a space" : "a character that no JWT has";
    throw new ChatError(`the token has ${what} at position ${at + 1} of ${given.length}: give the token alone`, { code: "token" });
  }
  const { me } = readToken(given);
  if (owner && me && keyOf(me) !== keyOf(owner)) throw new ChatError("the token belongs to another participant", { code: "token" });
  return given;
}

/**
 * The lifetime of a token in milliseconds, by the issuer's clock; null if the token does not state it.
 * @param {string} token
 * @returns {number | null}
 */
export function tokenLifetimeMs(token) {
  const { exp, iat, nbf } = decodeClaims(token);
  const from = typeof iat === "number" ? iat : nbf;
  return typeof exp === "number" && typeof from === "number" && exp > from ? (exp - from) * 1000 : null;
}

/** @param {string} token @returns {any} */
function decodeClaims(token) {
  let claims = null;
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (char) => char.charCodeAt(0))));
  } catch { /* the check below throws */ }
  if (typeof claims !== "object" || claims === null) throw new ChatError("the token is no JWT: three parts of base64, joined by dots", { code: "token" });
  return claims;
}
