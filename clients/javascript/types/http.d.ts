/**
 * Seconds, or a date (RFC 9110 §10.2.3), as milliseconds from now.
 * @param {string | null} text
 * @param {number} now
 */
export function retryAfter(text: string | null, now: number): number | null;
/** @typedef {{ [name: string]: string | number | undefined }} Query */
export class Http {
    /**
     * @param {string} base
     * @param {(input: string, init: RequestInit) => Promise<Response>} fetch
     * @param {import("./credentials.js").Credentials} credentials
     * @param {import("./types.js").Clock} clock
     */
    constructor(base: string, fetch: (input: string, init: RequestInit) => Promise<Response>, credentials: import("./credentials.js").Credentials, clock: import("./types.js").Clock);
    /**
     * @param {string} path
     * @param {Query} query
     * @returns {Promise<any>}
     */
    get(path: string, query: Query): Promise<any>;
    /** @param {string} path @param {object} body @returns {Promise<any>} */
    post(path: string, body: object): Promise<any>;
    /** @param {string} path @param {object} body @returns {Promise<any>} */
    put(path: string, body: object): Promise<any>;
    #private;
}
export type Query = {
    [name: string]: string | number | undefined;
};
