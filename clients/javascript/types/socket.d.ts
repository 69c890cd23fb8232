/**
 * @typedef {object} Owner
 * @property {() => Record<string, string>} query What the socket is for.
 * @property {() => Promise<unknown>} probe The same question over HTTP: tells why a handshake was refused, which browsers do not.
 * @property {(frame: any) => void} frame
 * @property {(state: import("./types.js").State, error: ChatError | null) => void} state
 */
export class LiveSocket {
    /**
     * @param {import("./client.js").Context} context
     * @param {Owner} owner
     */
    constructor(context: import("./client.js").Context, owner: Owner);
    get state(): import("./types.js").State;
    open(): void;
    close(): void;
    /** Something has changed for the better (network, token): no reason to wait any longer. */
    hurry(): void;
    /**
     * @param {object} frame
     * @returns {boolean} Whether it was handed to the network.
     */
    send(frame: object): boolean;
    /** A fresh token, for the socket that is open. @param {string} token */
    offer(token: string): void;
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
    frame: (frame: any) => void;
    state: (state: import("./types.js").State, error: ChatError | null) => void;
};
import { ChatError } from "./errors.js";
