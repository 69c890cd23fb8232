/** @typedef {import("./types.js").Participant} Participant */
/**
 * @param {Participant} participant
 * @returns {string} The same for the same person, `user:doc123`.
 */
export function keyOf(participant: Participant): string;
/**
 * @param {{ user_id?: string, contact_id?: string }} given
 * @returns {Participant}
 */
export function participantOf(given: {
    user_id?: string;
    contact_id?: string;
}): Participant;
/**
 * A conversation as the API names it.
 * @param {string} location_id
 * @param {Participant} me
 * @param {Participant} peer
 * @returns {Record<string, string>}
 */
export function conversationQuery(location_id: string, me: Participant, peer: Participant): Record<string, string>;
/**
 * The other side of an inbox row.
 * @param {{ user_id: string, contact_id?: string, peer_user_id?: string }} row
 * @param {Participant} me
 * @returns {Participant}
 */
export function peerOf(row: {
    user_id: string;
    contact_id?: string;
    peer_user_id?: string;
}, me: Participant): Participant;
/**
 * What a token says. Nothing is verified here: that is the server's.
 * @param {string} token
 * @returns {{ me: Participant | null, role: string, locations: string[], expiresAt: number | null }}
 */
export function readToken(token: string): {
    me: Participant | null;
    role: string;
    locations: string[];
    expiresAt: number | null;
};
export type Participant = import("./types.js").Participant;
