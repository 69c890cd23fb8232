/** @typedef {import("../types.js").Participant} Participant */
/**
 * The claims of a token that the SDK uses.
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
 * A token that can travel in a header and as a subprotocol. A line break or a space in it breaks the request or the handshake, and
 * the browser gives no reason. Throws for such a token, and for the token of another participant.
 * @param {unknown} given
 * @param {Participant | null} owner The participant whose token it must be; null allows any.
 * @returns {string}
 */
export function checkToken(given: unknown, owner?: Participant | null): string;
/**
 * The lifetime of a token in milliseconds, by the issuer's clock; null if the token does not state it.
 * @param {string} token
 * @returns {number | null}
 */
export function tokenLifetimeMs(token: string): number | null;
export type Participant = import("../types.js").Participant;
