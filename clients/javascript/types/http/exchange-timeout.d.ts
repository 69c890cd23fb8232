export const EXCHANGE_TIMEOUT_MS: 300000;
export class ExchangeTimeout {
    /** @param {import("../types.js").Clock} clock */
    constructor(clock: import("../types.js").Clock);
    get signal(): AbortSignal;
    /** Starts the limit for the next silence. @param {number} ms */
    restart(ms: number): void;
    /** Rejects when a limit expires before `step` settles. @template T @param {Promise<T>} step @returns {Promise<T>} */
    race<T>(step: Promise<T>): Promise<T>;
    /** Ends the exchange. @param {ChatError} error */
    abort(error: ChatError): ChatError;
    cancel(): void;
    #private;
}
import { ChatError } from "../errors.js";
