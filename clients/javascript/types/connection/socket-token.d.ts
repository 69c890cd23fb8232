/**
 * @typedef {object} Owner
 * @property {(frame: object) => boolean} send Whether the frame went to the network.
 * @property {(error: ChatError) => void} onFailed The token could not be replaced. The next attempt follows.
 * @property {() => void} onDone
 */
export class SocketToken {
    /**
     * @param {import("../context.js").Context} context
     * @param {Owner} owner
     */
    constructor(context: import("../context.js").Context, owner: Owner);
    /** The token that the gateway accepted last, or that the handshake shows. */
    token: string;
    /** The socket is open. A token that came during the handshake follows. */
    onReady(): void;
    /** Sends a fresh token on the open socket. @param {string} token */
    update(token: string): void;
    /** @param {any} frame */
    handleFrame(frame: any): void;
    /** The connection has ended. */
    reset(): void;
    #private;
}
export type Owner = {
    /**
     * Whether the frame went to the network.
     */
    send: (frame: object) => boolean;
    /**
     * The token could not be replaced. The next attempt follows.
     */
    onFailed: (error: ChatError) => void;
    onDone: () => void;
};
import { ChatError } from "../errors.js";
