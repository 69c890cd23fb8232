/** @typedef {{ [name: string]: string | number | undefined }} Query */
/** @typedef {import("./shapes.js").Shape} Shape */
export class HttpClient {
    /**
     * @param {string} base
     * @param {(input: string, init: RequestInit) => Promise<Response>} fetch
     * @param {import("../auth/token-provider.js").TokenProvider} tokenProvider
     * @param {import("../time/clock.js").FullClock} clock
     * @param {import("../connection/network.js").Network} network
     */
    constructor(base: string, fetch: (input: string, init: RequestInit) => Promise<Response>, tokenProvider: import("../auth/token-provider.js").TokenProvider, clock: import("../time/clock.js").FullClock, network: import("../connection/network.js").Network);
    /** Called after each successful response. @type {() => void} */
    onSuccess: () => void;
    /**
     * @param {string} path
     * @param {Query} query
     * @param {Shape} shape What the response must be.
     * @returns {Promise<any>}
     */
    get(path: string, query: Query, shape: Shape): Promise<any>;
    /** @param {string} path @param {object} body @param {Shape} shape @returns {Promise<any>} */
    post(path: string, body: object, shape: Shape): Promise<any>;
    /** @param {string} path @param {object} body @param {Shape} shape @returns {Promise<any>} */
    put(path: string, body: object, shape: Shape): Promise<any>;
    #private;
}
export type Query = {
    [name: string]: string | number | undefined;
};
export type Shape = import("./shapes.js").Shape;
