/** @typedef {import("../types.js").SocketState} SocketState */
/**
 * @typedef {object} Owner
 * @property {() => Record<string, string>} query What the socket subscribes to.
 * @property {() => Promise<unknown>} probe The same subscription over HTTP. It gives the reason for a refused handshake, which
 *   browsers hide.
 * @property {(frame: any) => void} onFrame
 * @property {() => void} onChange The state or the error changed.
 */
export class ReconnectingSocket {
    /**
     * @param {import("../context.js").Context} context
     * @param {import("../retry/retry-list.js").RetryList} retryList
     * @param {Owner} owner
     */
    constructor(context: import("../context.js").Context, retryList: import("../retry/retry-list.js").RetryList, owner: Owner);
    /** @type {ChatError | null} Why there is no connection, if the reason is known. */
    error: ChatError | null;
    get state(): import("../types.js").SocketState;
    /** Whether changes do not arrive by frames at present. */
    get isInterrupted(): boolean;
    open(): void;
    close(): void;
    /** The network, the page or a token is back: check the connection, or connect without a wait. */
    retryNow(): void;
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
     * The state or the error changed.
     */
    onChange: () => void;
};
import { ChatError } from "../errors.js";
