export class Network {
    /**
     * @param {import("../time/clock.js").FullClock} clock
     * @param {boolean} isForeignOrigin Whether the page has another origin than the server.
     */
    constructor(clock: import("../time/clock.js").FullClock, isForeignOrigin: boolean);
    /** @type {() => void} */
    onChange: () => void;
    /** Why no request reaches the server; null when requests do, or none was made yet. */
    get error(): ChatError | null;
    /** Whether the platform says so. Even an open connection is doubtful then. */
    get isPlatformOffline(): boolean;
    /** The platform reported a change. */
    updatePlatform(): void;
    /** A response or a frame arrived. */
    recordResponse(): void;
    /**
     * A request got no response.
     * @param {ChatError} error
     * @param {number} startedAt By `elapsed`.
     * @param {() => Promise<unknown>} reach A request that gets a response from a server that does not accept the page's origin.
     */
    recordFailure(error: ChatError, startedAt: number, reach: () => Promise<unknown>): void;
    #private;
}
import { ChatError } from "../errors.js";
