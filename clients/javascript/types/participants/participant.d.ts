/** @typedef {import("../types.js").Participant} Participant */
/**
 * @param {Participant} participant
 * @returns {string} Equal for the same participant: `user:doc123`.
 */
export function keyOf(participant: Participant): string;
/**
 * @param {{ user_id?: string | undefined, contact_id?: string | undefined }} given
 * @returns {Participant}
 */
export function parseParticipant(given: {
    user_id?: string | undefined;
    contact_id?: string | undefined;
}): Participant;
/**
 * The query parameters that name a conversation.
 * @param {string} location_id
 * @param {Participant} me
 * @param {Participant} peer
 * @returns {Record<string, string>}
 */
export function conversationQuery(location_id: string, me: Participant, peer: Participant): Record<string, string>;
/**
 * The query parameters that name an inbox. A user or a contact has one; a service says whose.
 * @param {{ location_id: string, me: Participant, role: string }} context
 */
export function inboxQuery({ location_id, me, role }: {
    location_id: string;
    me: Participant;
    role: string;
}): {
    user_id: string;
    contact_id?: undefined;
    location_id: string;
} | {
    contact_id: string;
    user_id?: undefined;
    location_id: string;
} | {
    location_id: string;
};
/**
 * The members that name sender and receiver of a message.
 * @param {Participant} sender
 * @param {Participant} receiver
 */
export function endpointFields(sender: Participant, receiver: Participant): {
    receiver_user_id: string;
    sender_user_id: string;
} | {
    receiver_contact_id: string;
    sender_user_id: string;
} | {
    receiver_user_id: string;
    sender_contact_id: string;
} | {
    receiver_contact_id: string;
    sender_contact_id: string;
};
/**
 * The other side of an inbox row.
 * @param {{ user_id: string, contact_id?: string, peer_user_id?: string }} row
 * @param {Participant} me
 * @returns {Participant}
 */
export function getPeer(row: {
    user_id: string;
    contact_id?: string;
    peer_user_id?: string;
}, me: Participant): Participant;
export type Participant = import("../types.js").Participant;
