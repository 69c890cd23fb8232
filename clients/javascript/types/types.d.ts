/**
 * A participant, by the EHR's identifier: staff (`user_id`) or patient (`contact_id`).
 */
export type Participant = {
    user_id: string;
    contact_id?: undefined;
} | {
    contact_id: string;
    user_id?: undefined;
};
/**
 * The status of a message: `sending` until the server stores it, `failed` when the server rejects it.
 */
export type Status = "sending" | "failed" | "sent" | "delivered" | "read";
/**
 * A message of the server.
 */
export type ServerMessage = {
    id: string;
    conversation_id: string;
    /**
     * 1, 2, 3 … within the conversation, without gaps.
     */
    seq: number;
    location_id: string;
    sender_user_id?: string | undefined;
    sender_contact_id?: string | undefined;
    receiver_user_id?: string | undefined;
    receiver_contact_id?: string | undefined;
    content: string;
    client_message_id?: string | null | undefined;
    sent_at: string;
    delivered_at?: string | null | undefined;
    read_at?: string | null | undefined;
    is_read?: boolean | undefined;
};
/**
 * A message to show. It is frozen: a change creates another object.
 */
export type Message = {
    /**
     * Never changes, for lists that are rendered by key.
     */
    key: string;
    /**
     * null until the server stores the message.
     */
    id: string | null;
    /**
     * null until the server stores the message.
     */
    seq: number | null;
    /**
     * Whether this side sent it.
     */
    mine: boolean;
    status: Status;
    /**
     * Why it `failed`.
     */
    error: ChatError | null;
    content: string;
    client_message_id: string | null;
    /**
     * By this machine's clock until the server stores the message.
     */
    sent_at: string;
    delivered_at: string | null;
    read_at: string | null;
};
/**
 * The state of a connection.
 */
export type SocketState = "connecting" | "live" | "degraded" | "reconnecting" | "offline" | "blocked" | "refused" | "closed";
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
 */
export type State = SocketState | "incomplete";
/**
 * Work that the SDK retries: the connection of a conversation or of the inbox; loading messages, inbox rows or a presence; sending a
 * message; sending receipts; renewing the token; storing a draft.
 */
export type Work = "connection" | "history" | "inbox" | "presence" | "send" | "receipts" | "token" | "drafts";
/**
 * Work that failed and will be retried. `peer` names the conversation, in `chat.retrying` only.
 */
export type Retried = {
    readonly work: Work;
    readonly error: ChatError;
    readonly peer?: Participant;
};
export type ServerConversation = {
    conversation_id: string;
    location_id: string;
    user_id: string;
    contact_id?: string | undefined;
    peer_user_id?: string | undefined;
    last_message: ServerMessage;
    unread_count: number;
    /**
     * `seq` of the first message that this side has not read; absent when it has read all, and while the server does not know it.
     */
    first_unread_seq?: number | undefined;
    last_activity_at: string;
};
/**
 * A row of the inbox: the server's row, with the other side and whether this side wrote the last message.
 */
export type InboxRow = ServerConversation & {
    peer: Participant;
    mine: boolean;
};
export type Presence = {
    online: boolean;
    last_seen_at: string | null;
};
/**
 * The events of a `Chat`. `expiring`: the token ends soon. `unauthorized`: the server refuses it. Both occur only when the token source
 * has no other token: give one to `setToken`. `warning`: work failed and will be retried. `retrying`: that list changed. `presence`:
 * `online` is null when it is unknown. `draft`: the draft for a participant changed. `message`: a
 * message arrived in any conversation; once each, by `seq` within a conversation.
 */
export type ChatEvents = {
    expiring: {
        expires_at: string;
    };
    unauthorized: ChatError;
    warning: ChatError;
    retrying: readonly Retried[];
    presence: Participant & {
        online: boolean | null;
        last_seen_at: string | null;
    };
    draft: {
        peer: Participant;
        draft: string;
    };
    message: {
        peer: Participant;
        conversation_id: string;
        message: Message;
    };
};
/**
 * The events of a `Conversation`. `change`: something to show changed; at most once per turn of the event loop. `message`: a message of
 * the peer, or of another window of this participant, arrived after the conversation was opened; once each, by `seq`. `error`: the
 * server refuses to give the messages, or rejects a frame. The SDK retries where a retry can succeed.
 */
export type ConversationEvents = {
    change: void;
    message: Message;
    state: State;
    error: ChatError;
};
export type InboxEvents = {
    change: void;
    state: State;
    error: ChatError;
};
/**
 * Gives a token. The SDK calls it for the `first` token, for one that is `expiring`, and for one that the server `refused`. After half a
 * minute without an answer it calls again. It still takes a late token.
 */
export type TokenSource = (reason: "first" | "expiring" | "refused") => string | Promise<string>;
/**
 * Time and timers. Tests bring their own.
 */
export type Clock = {
    /**
     * Milliseconds since 1970.
     */
    now: () => number;
    /**
     * Milliseconds by a clock that no user can set. Default: `now`.
     */
    elapsed?: (() => number) | undefined;
    /**
     * Calls `run` after `ms`. Returns a function that cancels the call.
     */
    after: (ms: number, run: () => void) => () => void;
};
/**
 * The members of a WebSocket that the SDK uses.
 */
export type WebSocketLike = {
    readyState: number;
    send: (data: string) => void;
    close: (code?: number, reason?: string) => void;
    onmessage: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
};
/**
 * Where drafts are kept. Any method may throw: the draft then stays in memory.
 */
export type DraftStore = {
    get: (key: string) => string | null | undefined;
    set: (key: string, text: string) => void;
    remove: (key: string) => void;
    keys: () => Iterable<string>;
};
export type Options = {
    /**
     * A JWT, or a function that gets one. A long session needs the function.
     */
    token: string | TokenSource;
    /**
     * The address of the chat, `https://chat.example.org`. Default: the page's origin.
     */
    url?: string | undefined;
    /**
     * The EHR's location. Default: the token's, if it names exactly one.
     */
    location_id?: string | undefined;
    /**
     * The participant who acts. Default: the token's owner. Only a `service` token may act for others.
     */
    me?: Participant | undefined;
    /**
     * For platforms without one (Node.js 20).
     */
    WebSocket?: (new (url: string, protocols: string[]) => WebSocketLike) | undefined;
    fetch?: ((input: string, init: RequestInit) => Promise<Response>) | undefined;
    /**
     * Where drafts are kept. Default: `memory`. A stored draft is health
     * information on the disk of this computer.
     */
    drafts?: "session" | "memory" | DraftStore | "local" | undefined;
    /**
     * The number of messages that one conversation keeps in memory. Default: 5,000.
     */
    maxMessages?: number | undefined;
    clock?: Clock | undefined;
    random?: (() => number) | undefined;
};
export type ChatError = import("./errors.js").ChatError;
