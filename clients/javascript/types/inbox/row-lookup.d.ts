/**
 * @param {import("../context.js").Services} services
 * @param {import("../types.js").Participant} peer
 * @param {(oldestActivity: string | null) => boolean} isNeedless Whether the rows before this time can tell nothing new; null: all rows.
 * @returns {Promise<import("../types.js").ServerConversation | null>}
 */
export function lookUpRow(services: import("../context.js").Services, peer: import("../types.js").Participant, isNeedless: (oldestActivity: string | null) => boolean): Promise<import("../types.js").ServerConversation | null>;
