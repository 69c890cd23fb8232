// The shapes that cross the SDK's border. Those of the server keep the server's names, so that its documentation
// (openapi.yaml, asyncapi.yaml) is theirs too; what the SDK adds to them is marked.

/**
 * Somebody, by the EHR's identifier: staff (`user_id`) or patient (`contact_id`).
 * @typedef {{ user_id: string, contact_id?: undefined } | { contact_id: string, user_id?: undefined }} Participant
 */

/**
 * How a message stands: `sending` until the server has it, `failed` when it will not take it.
 * @typedef {"sending" | "failed" | "sent" | "delivered" | "read"} Status
 */

/**
 * A message as the server tells it.
 * @typedef {object} ServerMessage
 * @property {string} id
 * @property {string} conversation_id
 * @property {number} seq 1, 2, 3 … within the conversation, without gaps.
 * @property {string} location_id
 * @property {string} [sender_user_id]
 * @property {string} [sender_contact_id]
 * @property {string} [receiver_user_id]
 * @property {string} [receiver_contact_id]
 * @property {string} content
 * @property {string | null} [client_message_id]
 * @property {string} sent_at
 * @property {string | null} [delivered_at]
 * @property {string | null} [read_at]
 * @property {boolean} [is_read]
 */

/**
 * A message to show. Never changed: when something about it changes, another object takes its place.
 * @typedef {object} Message
 * @property {string} key The same from the first moment on, for lists that are rendered by key.
 * @property {string | null} id null until the server has it.
 * @property {number | null} seq null until the server has it.
 * @property {boolean} mine Whether this side sent it.
 * @property {Status} status
 * @property {ChatError | null} error Why it `failed`.
 * @property {string} content
 * @property {string | null} client_message_id
 * @property {string} sent_at By this machine's clock until the server has it.
 * @property {string | null} delivered_at
 * @property {string | null} read_at
 */

/**
 * How the connection stands.
 * @typedef {"connecting" | "live" | "degraded" | "reconnecting" | "refused" | "closed"} SocketState
 */

/**
 * - `connecting`: for the first time.
 * - `live`: everything there is has arrived, or is being loaded.
 * - `incomplete`: connected, but what may have been missed cannot be loaded; that is tried again, see `error`.
 * - `degraded`: connected, but the server's live relay is cut; history is polled instead.
 * - `reconnecting`: the connection is gone, and made again; history is polled meanwhile.
 * - `refused`: the server does not let this participant in, see `error`; it is asked again, ever more rarely.
 * - `closed`: by `close()`.
 * @typedef {SocketState | "incomplete"} State
 */

/**
 * What may fail and is tried again then: the connection of a conversation or of the inbox, loading the messages of a
 * conversation, the rows of the inbox or a presence, sending a message, telling what was received and read, renewing the token.
 * @typedef {"connection" | "history" | "inbox" | "presence" | "send" | "receipts" | "token"} Work
 */

/**
 * Something that is being tried again. `peer`: in which conversation; `chat.retrying` has it.
 * @typedef {{ readonly work: Work, readonly error: ChatError, readonly peer?: Participant }} Retried
 */

/**
 * @typedef {object} ServerConversation
 * @property {string} conversation_id
 * @property {string} location_id
 * @property {string} user_id
 * @property {string} [contact_id]
 * @property {string} [peer_user_id]
 * @property {ServerMessage} last_message
 * @property {number} unread_count
 * @property {string} last_activity_at
 */

/**
 * A row of the inbox: the server's, and who the other one is.
 * @typedef {ServerConversation & { peer: Participant, mine: boolean }} InboxRow
 */

/**
 * @typedef {object} Presence
 * @property {boolean} online
 * @property {string | null} last_seen_at
 */

/**
 * Gives a token. Called for the first one, when one is about to end (`expiring`), and when the server refused one (`refused`).
 * A token that does not come within half a minute is asked for again; it is still taken when it comes.
 * @callback TokenSource
 * @param {"first" | "expiring" | "refused"} reason
 * @returns {string | Promise<string>}
 */

/**
 * What passes the time; tests bring their own.
 * @typedef {object} Clock
 * @property {() => number} now Milliseconds since 1970.
 * @property {() => number} [elapsed] Milliseconds since anything, by a clock that nobody sets; `now` unless given.
 * @property {(ms: number, run: () => void) => () => void} after Runs later, unless what it returns is called before.
 */

/**
 * The part of a WebSocket that is used.
 * @typedef {object} WebSocketLike
 * @property {number} readyState
 * @property {(data: string) => void} send
 * @property {(code?: number, reason?: string) => void} close
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 */

/**
 * @typedef {object} Options
 * @property {string | TokenSource} token A JWT, or better what gets one: a long session needs a fresh one now and then.
 * @property {string} [url] Where the chat is, `https://chat.example.org`; the page's own origin unless given.
 * @property {string} [location_id] The EHR's location; the token's, when it names exactly one.
 * @property {Participant} [me] Who acts; the token's owner unless given. Only a `service` token may act for others.
 * @property {new (url: string, protocols: string[]) => WebSocketLike} [WebSocket] For platforms that have none (Node.js 20).
 * @property {(input: string, init: RequestInit) => Promise<Response>} [fetch]
 * @property {number} [maxMessages] Most messages that one conversation keeps in memory; 5,000 unless given.
 * @property {Clock} [clock]
 * @property {() => number} [random]
 */

/** @typedef {import("./errors.js").ChatError} ChatError */

export {};
