/**
 * @typedef {object} Owner
 * @property {() => Record<string, string>} query What the socket is for.
 * @property {() => Promise<unknown>} probe The same question over HTTP: tells why a handshake was refused, which browsers do not.
 * @property {(frame: any) => void} onFrame
 * @property {() => void} onChange State or error has.
 * @property {(work: import("./types.js").Work, error: ChatError) => void} onFailed It is tried again.
 * @property {(work: import("./types.js").Work) => void} onDone It is not tried again any more.
 */
export class ReconnectingSocket {
    /**
     * @param {import("./chat.js").Context} context
     * @param {Owner} owner
     */
    constructor(context: import("./chat.js").Context, owner: Owner);
    /** @type {ChatError | null} Why there is no connection, as far as that is known. */
    error: ChatError | null;
    get state(): import("./types.js").SocketState;
    /** Whether nobody tells at the moment what happens. */
    get isInterrupted(): boolean;
    open(): void;
    close(): void;
    /** Something has changed for the better (network, token): no reason to wait any longer. */
    retryNow(): void;
    /** Other work has succeeded. @param {boolean} hadFailed Before. */
    shortenWait(hadFailed: boolean): void;
    /**
     * @param {object} frame
     * @returns {boolean} Whether it was handed to the network.
     */
    send(frame: object): boolean;
    /** A fresh token, for the socket that is open. @param {string} token */
    updateToken(token: string): void;
    #private;
}
export type Owner = {
    /**
     * What the socket is for.
     */
    query: () => Record<string, string>;
    /**
     * The same question over HTTP: tells why a handshake was refused, which browsers do not.
     */
    probe: () => Promise<unknown>;
    onFrame: (frame: any) => void;
    /**
     * State or error has.
     */
    onChange: () => void;
    /**
     * It is tried again.
     */
    onFailed: (work: import("./types.js").Work, error: ChatError) => void;
    /**
     * It is not tried again any more.
     */
    onDone: (work: import("./types.js").Work) => void;
};
import { ChatError } from "./errors.js";
