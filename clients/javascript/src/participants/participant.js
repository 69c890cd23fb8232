// Participants as keys, as query parameters and as members of request bodies.

import { invalidArgument } from "../errors.js";

/** @typedef {import("../types.js").Participant} Participant */

/**
 * @param {Participant} participant
 * @returns {string} Equal for the same participant: `user:doc123`.
 */
export function keyOf(participant) {
  return participant.user_id !== undefined ? `user:${participant.user_id}` : `contact:${participant.contact_id}`;
}

/**
 * @param {{ user_id?: string | undefined, contact_id?: string | undefined }} given
 * @returns {Participant}
 */
export function parseParticipant(given) {
  const { user_id, contact_id } = given ?? {};
  if (isId(user_id) && contact_id === undefined) return { user_id };
  if (isId(contact_id) && user_id === undefined) return { contact_id };
  throw invalidArgument("a participant is { user_id } or { contact_id }, with a string that is not empty");
}

/** @param {unknown} given @returns {given is string} */
function isId(given) {
  return typeof given === "string" && given !== "";
}

/**
 * The query parameters that name a conversation.
 * @param {string} location_id
 * @param {Participant} me
 * @param {Participant} peer
 * @returns {Record<string, string>}
 */
export function conversationQuery(location_id, me, peer) {
  if (me.user_id === undefined && peer.user_id === undefined) throw invalidArgument("two contacts cannot have a conversation");
  if (keyOf(me) === keyOf(peer)) throw invalidArgument("a participant cannot have a conversation with itself");
  if (me.user_id !== undefined && peer.user_id !== undefined) return { location_id, user_id: me.user_id, peer_user_id: peer.user_id };
  return { location_id, user_id: String(me.user_id ?? peer.user_id), contact_id: String(me.contact_id ?? peer.contact_id) };
}

/**
 * The query parameters that name an inbox. A user or a contact has one; a service says whose.
 * @param {{ location_id: string, me: Participant, role: string }} context
 */
export function inboxQuery({ location_id, me, role }) {
  return role === "service" ? { location_id, ...me } : { location_id };
}

/**
 * The members that name sender and receiver of a message.
 * @param {Participant} sender
 * @param {Participant} receiver
 */
export function endpointFields(sender, receiver) {
  return {
    ...(sender.user_id !== undefined ? { sender_user_id: sender.user_id } : { sender_contact_id: sender.contact_id }),
    ...(receiver.user_id !== undefined ? { receiver_user_id: receiver.user_id } : { receiver_contact_id: receiver.contact_id }),
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
