export type Participant = import("./types.js").Participant;
export type Row = import("./types.js").ServerConversation;
export type ChatError = import("./errors.js").ChatError;
/**
 * Services that exist once per chat.
 */
export type Services = {
    http: import("./http/http-client.js").HttpClient;
    network: import("./connection/network.js").Network;
    wsUrl: string;
    WebSocket: new (url: string, protocols: string[]) => import("./types.js").WebSocketLike;
    tokenProvider: import("./auth/token-provider.js").TokenProvider;
    clock: import("./time/clock.js").FullClock;
    drafts: import("./drafts.js").Drafts;
    /**
     * From 0 up to, but not including, 1.
     */
    random: () => number;
    location_id: string;
    me: Participant;
    /**
     * Of the token: `user`, `contact` or `service`.
     */
    role: string;
    /**
     * Per conversation.
     */
    maxMessages: number;
};
/**
 * What a part reports to its chat.
 */
export type Callbacks = {
    presence: import("./participants/presence-cache.js").PresenceCache;
    /**
     * It may
     * be closed now, with no message left to send.
     */
    onConversationSettled: (conversation: import("./conversation/conversation.js").Conversation) => void;
    /**
     *   The inbox row of a conversation: of the open inbox, or else from the server; null when there is none.
     */
    findRow: (peer: Participant, isNeedless: (oldestActivity: string | null) => boolean) => Row | null | Promise<Row | null>;
    /**
     * The server stored a message that this chat sent.
     */
    onOwnStored: (peer: Participant, seq: number) => void;
    onPartClosed: () => void;
    /**
     * Work failed and will be retried.
     */
    warn: (work: import("./types.js").Work, error: ChatError) => void;
    /**
     * Work succeeded that had failed before.
     */
    onRecovered: () => void;
    onRetryingChange: () => void;
    /**
     * The token ends soon and the page gives no other.
     */
    onExpiring: (expires_at: string) => void;
};
export type Context = Services & Callbacks;
