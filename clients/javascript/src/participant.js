// Who is who: participants as keys and as query parameters, and what a token says of its owner.

import { ChatError } from "./errors.js";

/** @typedef {import("./types.js").Participant} Participant */

/**
 * @param {Participant} participant
 * @returns {string} The same for the same person, `user:doc123`.
 */
export function keyOf(participant) {
  return participant.user_id !== undefined ? `user:${participant.user_id}` : `contact:${participant.contact_id}`;
}

/**
 * @param {{ user_id?: string, contact_id?: string }} given
 * @returns {Participant}
 */
export function parseParticipant(given) {
  if (typeof given.user_id === "string" && given.contact_id === undefined) return { user_id: given.user_id };
  if (typeof given.contact_id === "string" && given.user_id === undefined) return { contact_id: given.contact_id };
  throw new TypeError("a participant is { user_id } or { contact_id }");
}

/**
 * A conversation as the API names it.
 * @param {string} location_id
 * @param {Participant} me
 * @param {Participant} peer
 * @returns {Record<string, string>}
 */
export function conversationQuery(location_id, me, peer) {
  if (me.user_id === undefined && peer.user_id === undefined) throw new TypeError("two contacts cannot have a conversation");
  if (me.user_id !== undefined && peer.user_id !== undefined) return { location_id, user_id: me.user_id, peer_user_id: peer.user_id };
  return { location_id, user_id: String(me.user_id ?? peer.user_id), contact_id: String(me.contact_id ?? peer.contact_id) };
}

/**
 * Sender and receiver of a message as the API names them.
 * @param {Participant} from
 * @param {Participant} to
 */
export function endpointFields(from, to) {
  return {
    ...(from.user_id !== undefined ? { sender_user_id: from.user_id } : { sender_contact_id: from.contact_id }),
    ...(to.user_id !== undefined ? { receiver_user_id: to.user_id } : { receiver_contact_id: to.contact_id }),
  };
}

/**
 * The other side of an inbox row.
 * @param {{ user_id: string, contact_id?: string, peer_user_id?: string }} row
 * @param {Participant} me
 * @returns {Participant}
 */
export function getPeer(row, me) {
  if (row.peer_user_id !== undefined) return { user_id: row.user_id === me.user_id ? row.peer_user_id : row.user_id };
  return me.user_id !== undefined ? { contact_id: String(row.contact_id) } : { user_id: row.user_id };
}

/**
 * What a token says. Nothing is verified here: that is the server's.
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
 * A token that can be sent: in a header and as a subprotocol, where a line break or a space would break the request or the
 * handshake without a reason that anybody could read.
 * @param {unknown} given
 * @param {Participant | null} owner Whose it must be; null when it may be anybody's.
 * @returns {string}
 */
export function checkToken(given, owner = null) {
  if (typeof given !== "string" || given === "") throw new ChatError("there is no token: a JWT is needed, as a string that is not empty", { code: "token" });
  const at = given.search(/[^\w.-]/);
  if (at >= 0) {
    const what = /\s/.test(given[at]) ? "a line break or a space" : "a character that no JWT has";
    throw new ChatError(`the token has ${what} at position ${at + 1} of ${given.length}: give the token alone`, { code: "token" });
  }
  const { me } = readToken(given);
  if (owner && me && keyOf(me) !== keyOf(owner)) throw new ChatError("the token is somebody else's", { code: "token" });
  return given;
}

/**
 * How long a token lives, in milliseconds, by the clock of who issued it; null when it does not say.
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
  } catch { /* told below */ }
  if (typeof claims !== "object" || claims === null) throw new ChatError("the token is no JWT: three parts of base64, joined by dots", { code: "token" });
  return claims;
}
