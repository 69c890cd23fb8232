/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").ServerMessage} ServerMessage */
/** @typedef {import("../types.js").Work} Work */
/** @extends {Emitter<import("../types.js").ConversationEvents>} */
export class Conversation extends Emitter<import("../types.js").ConversationEvents> {
    /**
     * @param {import("../context.js").Context} context
     * @param {import("../types.js").Participant} peer
     */
    constructor(context: import("../context.js").Context, peer: import("../types.js").Participant);
    /** The other side. */
    peer: import("../types.js").Participant;
    /** The server's id of the conversation; null before its first message. */
    get conversation_id(): string | null;
    /** The messages to show: by `seq`, then those on their way. The same array until something changes. @returns {readonly Message[]} */
    get messages(): readonly Message[];
    /** Whether the newest messages are loaded. */
    get loaded(): boolean;
    /** Whether the server has older messages, which `loadOlder()` loads. */
    get hasMore(): boolean;
    get state(): import("../types.js").State;
    /** Why the state is not `live`, if the reason is known. */
    get error(): ChatError | null;
    /** When the next attempt to connect is due at the latest, in milliseconds since 1970; null while nothing waits. */
    get retryAt(): number | null;
    /** The work that failed and will be retried, with its last error. The same array until something changes. */
    get retrying(): readonly import("../types.js").Retried[];
    /** Whether the peer is typing. */
    get peerTyping(): boolean;
    /** The peer's presence; null when it is unknown. */
    get presence(): import("../types.js").Presence | null;
    /** The number of messages that the server has not stored yet. */
    get pending(): number;
    /** What the participant began to write; empty when there is nothing. */
    get draft(): string;
    /** Keeps what the participant writes. `send` removes it when it sends the same text. @param {string} text */
    setDraft(text: string): void;
    /**
     * Sends a message. It is in `messages` at once. The SDK retries until the server stores it, in the order of the calls.
     * @param {string} text 1 to 8,000 characters. A lone surrogate, as of an emoji that was cut in two, becomes U+FFFD.
     * @returns {Promise<Message>} Resolves when the server has stored it. A page that shows `messages` need not wait for it.
     */
    send(text: string): Promise<Message>;
    /**
     * Sends a failed message again, as the same message.
     * @param {Message} message
     * @returns {Promise<Message>}
     */
    retry(message: Message): Promise<Message>;
    /**
     * Removes a message that failed, that waits behind others, or that was refused at each attempt so far.
     * @param {Message} message
     * @returns {boolean} false when the server may have stored it, at this attempt or an earlier one. Such a message stays, and the SDK
     *   retries it.
     */
    discard(message: Message): boolean;
    /**
     * Loads the page before the oldest message in `messages`, and adds it there.
     * @returns {Promise<boolean>} Whether a further call can add more: the server has older messages, and there is room for them.
     */
    loadOlder(): Promise<boolean>;
    /**
     * Loads older pages until the message with this `seq` is in `messages`.
     * @param {number} seq
     * @returns {Promise<boolean>} Whether it is: false when it does not exist or there is no room for so many.
     */
    loadUntil(seq: number): Promise<boolean>;
    /**
     * Marks messages as read: the given ones, or all received ones in `messages`.
     * @param {readonly Message[]} [messages]
     * @returns {Promise<void>} Resolves when the server has stored it.
     */
    markRead(messages?: readonly Message[]): Promise<void>;
    /**
     * `seq` of the first message that was unread when the conversation opened; null when there was none; undefined until it is known. It
     * may be older than `messages`: see `loadUntil`.
     */
    get firstUnread(): number | null | undefined;
    /** Sets `firstUnread` to the first message that is unread now, for a page that comes back to the foreground. */
    resetFirstUnread(): void;
    /**
     * Marks all messages as read that are unread now, loaded or not. It is safe to call again.
     * @param {{ onProgress?: (progress: { marked: number, total: number | null }) => void }} [options]
     * @returns {Promise<number>} How many it marked. Rejects when a page cannot be loaded, or when the conversation closes.
     */
    markAllRead(options?: {
        onProgress?: (progress: {
            marked: number;
            total: number | null;
        }) => void;
    }): Promise<number>;
    /** Call it on every keystroke. The SDK notifies the peer every two seconds at most. */
    typing(): void;
    /**
     * Ends the use that one call of `chat.conversation` began. The last use ends the connection. Messages on their way are still sent.
     */
    close(): void;
    /** For `Chat`: another use begins, perhaps after `close()` and before the last message was sent. @internal */
    reopen(): void;
    /** For `Chat`: no view uses it, and nothing waits to be sent. @internal */
    get isDone(): boolean;
    /** For `Chat`: ends everything. @internal */
    destroy(): void;
    /** For `Chat`: the network, the page or a token is back. @internal @param {boolean} [isForced] The user asks for an attempt. */
    retryNow(isForced?: boolean): void;
    /** For `Chat`. @internal */
    onNetworkChange(): void;
    /** For `Chat`: other work succeeded. @internal @param {boolean} hadFailed */
    shortenWait(hadFailed: boolean): void;
    /** For `Chat`: there is a fresh token. @internal @param {string} token */
    updateToken(token: string): void;
    /** For `Chat`: the presence of the peer, or the draft, changed. @internal */
    onPeerChange(): void;
    #private;
}
export type Message = import("../types.js").Message;
export type ServerMessage = import("../types.js").ServerMessage;
export type Work = import("../types.js").Work;
import { Emitter } from "../emitter.js";
import { ChatError } from "../errors.js";
