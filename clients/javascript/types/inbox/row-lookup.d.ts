/**
 * @param {import("../context.js").Services} services
 * @param {import("../types.js").Participant} peer
 * @returns {Promise<import("../types.js").ServerConversation | null>}
 */
export function lookUpRow(services: import("../context.js").Services, peer: import("../types.js").Participant): Promise<import("../types.js").ServerConversation | null>;
