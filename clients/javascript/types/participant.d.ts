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
export function parseParticipant(given: {
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
 * Sender and receiver of a message as the API names them.
 * @param {Participant} from
 * @param {Participant} to
 */
export function endpointFields(from: Participant, to: Participant): {
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
/**
 * A token that can be sent: in a header and as a subprotocol, where a line break or a space would break the request or the
 * handshake without a reason that anybody could read.
 * @param {unknown} given
 * @param {Participant | null} owner Whose it must be; null when it may be anybody's.
 * @returns {string}
 */
export function checkToken(given: unknown, owner?: Participant | null): string;
/**
 * How long a token lives, in milliseconds, by the clock of who issued it; null when it does not say.
 * @param {string} token
 * @returns {number | null}
 */
export function tokenLifetimeMs(token: string): number | null;
export type Participant = import("./types.js").Participant;
