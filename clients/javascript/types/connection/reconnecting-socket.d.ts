/** @typedef {import("../types.js").SocketState} SocketState */
/** @typedef {Exclude<SocketState, "offline" | "blocked">} Phase */
/**
 * @typedef {object} Owner
 * @property {() => Record<string, string>} query What the socket subscribes to.
 * @property {() => Promise<unknown>} probe The same subscription over HTTP. It gives the reason for a refused handshake, which
 *   browsers hide.
 * @property {(frame: any) => void} onFrame
 * @property {() => void} onChange The state, the error or the time of the next attempt changed.
 */
export class ReconnectingSocket {
    /**
     * @param {import("../context.js").Context} context
     * @param {import("../retry/retry-list.js").RetryList} retryList
     * @param {Owner} owner
     */
    constructor(context: import("../context.js").Context, retryList: import("../retry/retry-list.js").RetryList, owner: Owner);
    /** @returns {SocketState} */
    get state(): SocketState;
    /** Why there is no connection, if the reason is known. @returns {ChatError | null} */
    get error(): ChatError | null;
    /** When the next attempt is due at the latest, in milliseconds since 1970; null while nothing waits. */
    get retryAt(): number | null;
    /** Whether changes do not arrive by frames at present. */
    get isInterrupted(): boolean;
    open(): void;
    close(): void;
    /**
     * The network, the page or a token is back: check the connection, or connect without a wait.
     * @param {boolean} [isForced] The user asks for an attempt.
     */
    retryNow(isForced?: boolean): void;
    /** The network came or went, as far as the chat knows. */
    onNetworkChange(): void;
    /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
    shortenWait(hadFailed: boolean): void;
    /**
     * @param {object} frame
     * @returns {boolean} Whether the frame went to the network.
     */
    send(frame: object): boolean;
    /** Sends a fresh token on the open socket. @param {string} token */
    updateToken(token: string): void;
    #private;
}
export type SocketState = import("../types.js").SocketState;
export type Phase = Exclude<SocketState, "offline" | "blocked">;
export type Owner = {
    /**
     * What the socket subscribes to.
     */
    query: () => Record<string, string>;
    /**
     * The same subscription over HTTP. It gives the reason for a refused handshake, which
     * browsers hide.
     */
    probe: () => Promise<unknown>;
    onFrame: (frame: any) => void;
    /**
     * The state, the error or the time of the next attempt changed.
     */
    onChange: () => void;
};
import { ChatError } from "../errors.js";
