// What `Chat` shares with its conversations and its inbox. Types only.

/** @typedef {import("./types.js").Participant} Participant */
/** @typedef {import("./types.js").ServerConversation} Row */
/** @typedef {import("./errors.js").ChatError} ChatError */

/**
 * Services that exist once per chat.
 * @typedef {object} Services
 * @property {import("./http/http-client.js").HttpClient} http
 * @property {import("./connection/network.js").Network} network
 * @property {string} wsUrl
 * @property {new (url: string, protocols: string[]) => import("./types.js").WebSocketLike} WebSocket
 * @property {import("./auth/token-provider.js").TokenProvider} tokenProvider
 * @property {import("./time/clock.js").FullClock} clock
 * @property {import("./drafts.js").Drafts} drafts
 * @property {() => number} random From 0 up to, but not including, 1.
 * @property {string} location_id
 * @property {Participant} me
 * @property {string} role Of the token: `user`, `contact` or `service`.
 * @property {number} maxMessages Per conversation.
 */

/**
 * What a part reports to its chat.
 * @typedef {object} Callbacks
 * @property {import("./participants/presence-cache.js").PresenceCache} presence
 * @property {(conversation: import("./conversation/conversation.js").Conversation) => void} onConversationSettled It may
 *   be closed now, with no message left to send.
 * @property {(peer: Participant, isNeedless: (oldestActivity: string | null) => boolean) => Row | null | Promise<Row | null>} findRow
 *   The inbox row of a conversation: of the open inbox, or else from the server; null when there is none.
 * @property {(peer: Participant, seq: number) => void} onOwnStored The server stored a message that this chat sent.
 * @property {() => void} onPartClosed
 * @property {(work: import("./types.js").Work, error: ChatError) => void} warn Work failed and will be retried.
 * @property {() => void} onRecovered Work succeeded that had failed before.
 * @property {() => void} onRetryingChange
 * @property {(expires_at: string) => void} onExpiring The token ends soon and the page gives no other.
 */

/** @typedef {Services & Callbacks} Context */

export {};
