export { retryAfter } from "./answer.js";
/** @typedef {{ [name: string]: string | number | undefined }} Query */
/** @typedef {import("./answer.js").Shape} Shape */
export class Http {
    /**
     * @param {string} base
     * @param {(input: string, init: RequestInit) => Promise<Response>} fetch
     * @param {import("./credentials.js").Credentials} credentials
     * @param {import("./types.js").Clock} clock
     */
    constructor(base: string, fetch: (input: string, init: RequestInit) => Promise<Response>, credentials: import("./credentials.js").Credentials, clock: import("./types.js").Clock);
    /** Called after each answer that was a success. @type {() => void} */
    succeeded: () => void;
    /**
     * @param {string} path
     * @param {Query} query
     * @param {Shape} shape What the answer must be.
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
export type Shape = import("./answer.js").Shape;
