/**
 * Somebody, by the EHR's identifier: staff (`user_id`) or patient (`contact_id`).
 */
export type Participant = {
    user_id: string;
    contact_id?: undefined;
} | {
    contact_id: string;
    user_id?: undefined;
};
/**
 * How a message stands: `sending` until the server has it, `failed` when it will not take it.
 */
export type Status = "sending" | "failed" | "sent" | "delivered" | "read";
/**
 * A message as the server tells it.
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
 * A message to show. Never changed: when something about it changes, another object takes its place.
 */
export type Message = {
    /**
     * The same from the first moment on, for lists that are rendered by key.
     */
    key: string;
    /**
     * null until the server has it.
     */
    id: string | null;
    /**
     * null until the server has it.
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
     * By this machine's clock until the server has it.
     */
    sent_at: string;
    delivered_at: string | null;
    read_at: string | null;
};
/**
 * How the connection stands.
 */
export type SocketState = "connecting" | "live" | "degraded" | "reconnecting" | "refused" | "closed";
/**
 * - `connecting`: for the first time.
 * - `live`: everything there is has arrived, or is being loaded.
 * - `incomplete`: connected, but what may have been missed cannot be loaded; that is tried again, see `error`.
 * - `degraded`: connected, but the server's live relay is cut; history is polled instead.
 * - `reconnecting`: the connection is gone, and made again; history is polled meanwhile.
 * - `refused`: the server does not let this participant in, see `error`; it is asked again, ever more rarely.
 * - `closed`: by `close()`.
 */
export type State = SocketState | "incomplete";
/**
 * What may fail and is tried again then: the connection of a conversation or of the inbox, loading the messages of a
 * conversation, the rows of the inbox or a presence, sending a message, telling what was received and read, renewing the token.
 */
export type Work = "connection" | "history" | "inbox" | "presence" | "send" | "receipts" | "token";
/**
 * Something that is being tried again. `peer`: in which conversation; `chat.retrying` has it.
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
    last_activity_at: string;
};
/**
 * A row of the inbox: the server's, and who the other one is.
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
 * Gives a token. Called for the first one, when one is about to end (`expiring`), and when the server refused one (`refused`).
 * A token that does not come within half a minute is asked for again; it is still taken when it comes.
 */
export type TokenSource = (reason: "first" | "expiring" | "refused") => string | Promise<string>;
/**
 * What passes the time; tests bring their own.
 */
export type Clock = {
    /**
     * Milliseconds since 1970.
     */
    now: () => number;
    /**
     * Milliseconds since anything, by a clock that nobody sets; `now` unless given.
     */
    elapsed?: (() => number) | undefined;
    /**
     * Runs later, unless what it returns is called before.
     */
    after: (ms: number, run: () => void) => () => void;
};
/**
 * The part of a WebSocket that is used.
 */
export type WebSocketLike = {
    readyState: number;
    send: (data: string) => void;
    close: (code?: number, reason?: string) => void;
    onmessage: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
};
export type Options = {
    /**
     * A JWT, or better what gets one: a long session needs a fresh one now and then.
     */
    token: string | TokenSource;
    /**
     * Where the chat is, `https://chat.example.org`; the page's own origin unless given.
     */
    url?: string | undefined;
    /**
     * The EHR's location; the token's, when it names exactly one.
     */
    location_id?: string | undefined;
    /**
     * Who acts; the token's owner unless given. Only a `service` token may act for others.
     */
    me?: Participant | undefined;
    /**
     * For platforms that have none (Node.js 20).
     */
    WebSocket?: (new (url: string, protocols: string[]) => WebSocketLike) | undefined;
    fetch?: ((input: string, init: RequestInit) => Promise<Response>) | undefined;
    /**
     * Most messages that one conversation keeps in memory; 5,000 unless given.
     */
    maxMessages?: number | undefined;
    clock?: Clock | undefined;
    random?: (() => number) | undefined;
};
export type ChatError = import("./errors.js").ChatError;
