/** @typedef {import("../types.js").State} State */
/**
 * @typedef {object} Owner
 * @property {() => import("./reconnecting-socket.js").ReconnectingSocket} getSocket
 * @property {() => import("../errors.js").ChatError | null} getLoadError Why something could not be loaded.
 * @property {(state: State) => void} onState
 * @property {() => void} onChange
 */
export class PartStatus {
    /** @param {Owner} owner */
    constructor(owner: Owner);
    /** @returns {State} */
    get state(): State;
    get error(): import("../errors.js").ChatError | null;
    get retryAt(): number | null;
    /** The socket's state changed, or the error of the loads. */
    update(): void;
    /** Something to show changed. */
    scheduleChange(): void;
    #private;
}
export type State = import("../types.js").State;
export type Owner = {
    getSocket: () => import("./reconnecting-socket.js").ReconnectingSocket;
    /**
     * Why something could not be loaded.
     */
    getLoadError: () => import("../errors.js").ChatError | null;
    onState: (state: State) => void;
    onChange: () => void;
};
