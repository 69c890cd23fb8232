// The public shapes. Those of the server keep the server's names, so its documents (openapi.yaml, asyncapi.yaml) apply to them as
// well. Types only.

/**
 * A participant, by the EHR's identifier: staff (`user_id`) or patient (`contact_id`).
 * @typedef {{ user_id: string, contact_id?: undefined } | { contact_id: string, user_id?: undefined }} Participant
 */

/**
 * The status of a message: `sending` until the server stores it, `failed` when the server rejects it.
 * @typedef {"sending" | "failed" | "sent" | "delivered" | "read"} Status
 */

/**
 * A message of the server.
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
 * A message to show. It is frozen: a change creates another object.
 * @typedef {object} Message
 * @property {string} key Never changes, for lists that are rendered by key.
 * @property {string | null} id null until the server stores the message.
 * @property {number | null} seq null until the server stores the message.
 * @property {boolean} mine Whether this side sent it.
 * @property {Status} status
 * @property {ChatError | null} error Why it `failed`.
 * @property {string} content
 * @property {string | null} client_message_id
 * @property {string} sent_at By this machine's clock until the server stores the message.
 * @property {string | null} delivered_at
 * @property {string | null} read_at
 */

/**
 * The state of a connection.
 * @typedef {"connecting" | "live" | "degraded" | "reconnecting" | "offline" | "blocked" | "refused" | "closed"} SocketState
 */

/**
 * - `connecting`: the first connection is not open yet.
 * - `live`: everything has arrived, or is loading.
 * - `incomplete`: connected, but a load failed that would fill a gap. `error` gives the reason. The SDK retries.
 * - `degraded`: connected, but the server's live relay is interrupted. The SDK polls.
 * - `reconnecting`: the connection is lost. The SDK polls and reconnects.
 * - `offline`: there is no connection, and no request reaches the server. The code of `error` is `network` or `timeout`.
 * - `blocked`: HTTP works, and WebSockets do not: a proxy or a firewall blocks them (`error` has the code `websocket_blocked`). The SDK
 *   polls. With the code `origin_blocked` the server does not accept pages of this origin, and nothing works.
 * - `refused`: the server refuses this participant. `error` gives the reason. The SDK retries less and less often.
 * - `closed`: by `close()`.
 * @typedef {SocketState | "incomplete"} State
 */

/**
 * Work that the SDK retries: the connection of a conversation or of the inbox; loading messages, inbox rows or a presence; sending a
 * message; sending receipts; renewing the token; storing a draft.
 * @typedef {"connection" | "history" | "inbox" | "presence" | "send" | "receipts" | "token" | "drafts"} Work
 */

/**
 * Work that failed and will be retried. `peer` names the conversation, in `chat.retrying` only.
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
 * @property {number} [first_unread_seq] `seq` of the first message that this side has not read; absent when it has read all, and while the server does not know it.
 * @property {string} last_activity_at
 */

/**
 * A row of the inbox: the server's row, with the other side and whether this side wrote the last message.
 * @typedef {ServerConversation & { peer: Participant, mine: boolean }} InboxRow
 */

/**
 * @typedef {object} Presence
 * @property {boolean} online
 * @property {string | null} last_seen_at
 */

/**
 * The events of a `Chat`. `expiring`: the token ends soon. `unauthorized`: the server refuses it. Both occur only when the token source
 * has no other token: give one to `setToken`. `warning`: work failed and will be retried. `retrying`: that list changed. `presence`:
 * `online` is null when it is unknown. `draft`: the draft for a participant changed. `message`: a
 * message arrived in any conversation; once each, by `seq` within a conversation.
 * @typedef {{
 *   expiring: { expires_at: string },
 *   unauthorized: ChatError,
 *   warning: ChatError,
 *   retrying: readonly Retried[],
 *   presence: Participant & { online: boolean | null, last_seen_at: string | null },
 *   draft: { peer: Participant, draft: string },
 *   message: { peer: Participant, conversation_id: string, message: Message },
 * }} ChatEvents
 */

/**
 * The events of a `Conversation`. `change`: something to show changed; at most once per turn of the event loop. `message`: a message of
 * the peer, or of another window of this participant, arrived after the conversation was opened; once each, by `seq`. `error`: the
 * server refuses to give the messages, or rejects a frame. The SDK retries where a retry can succeed.
 * @typedef {{ change: void, message: Message, state: State, error: ChatError }} ConversationEvents
 */

/** @typedef {{ change: void, state: State, error: ChatError }} InboxEvents */

/**
 * Gives a token. The SDK calls it for the `first` token, for one that is `expiring`, and for one that the server `refused`. After half a
 * minute without an answer it calls again. It still takes a late token.
 * @callback TokenSource
 * @param {"first" | "expiring" | "refused"} reason
 * @returns {string | Promise<string>}
 */

/**
 * Time and timers. Tests bring their own.
 * @typedef {object} Clock
 * @property {() => number} now Milliseconds since 1970.
 * @property {() => number} [elapsed] Milliseconds by a clock that no user can set. Default: `now`.
 * @property {(ms: number, run: () => void) => () => void} after Calls `run` after `ms`. Returns a function that cancels the call.
 */

/**
 * The members of a WebSocket that the SDK uses.
 * @typedef {object} WebSocketLike
 * @property {number} readyState
 * @property {(data: string) => void} send
 * @property {(code?: number, reason?: string) => void} close
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 */

/**
 * Where drafts are kept. Any method may throw: the draft then stays in memory.
 * @typedef {object} DraftStore
 * @property {(key: string) => string | null | undefined} get
 * @property {(key: string, text: string) => void} set
 * @property {(key: string) => void} remove
 * @property {() => Iterable<string>} keys
 */

/**
 * @typedef {object} Options
 * @property {string | TokenSource} token A JWT, or a function that gets one. A long session needs the function.
 * @property {string} [url] The address of the chat, `https://chat.example.org`. Default: the page's origin.
 * @property {string} [location_id] The EHR's location. Default: the token's, if it names exactly one.
 * @property {Participant} [me] The participant who acts. Default: the token's owner. Only a `service` token may act for others.
 * @property {new (url: string, protocols: string[]) => WebSocketLike} [WebSocket] For platforms without one (Node.js 20).
 * @property {(input: string, init: RequestInit) => Promise<Response>} [fetch]
 * @property {"memory" | "session" | "local" | DraftStore} [drafts] Where drafts are kept. Default: `memory`. A stored draft is health
 *   information on the disk of this computer.
 * @property {number} [maxMessages] The number of messages that one conversation keeps in memory. Default: 5,000.
 * @property {Clock} [clock]
 * @property {() => number} [random]
 */

/** @typedef {import("./errors.js").ChatError} ChatError */

export {};
