/** @typedef {"delivered" | "read"} Kind */
/** @typedef {{ id: string, delivered_at: string | null, read_at: string | null }} Marked */
/**
 * @typedef {object} Owner
 * @property {(marked: Marked[]) => void} onMarked The server's answers.
 * @property {(error: import("./errors.js").ChatError) => void} onWaiting It is tried again.
 * @property {() => void} onDone It is not tried again any more.
 */
export class ReceiptSender {
    /**
     * @param {import("./chat.js").Context} context
     * @param {Owner} owner
     */
    constructor({ http, clock, random }: import("./chat.js").Context, owner: Owner);
    /**
     * Resolves once the server has them; rejects when it will not take them.
     * @param {Kind} kind
     * @param {readonly string[]} ids
     * @returns {Promise<void>}
     */
    mark(kind: Kind, ids: readonly string[]): Promise<void>;
    /** Something has changed for the better. */
    retryNow(): void;
    /** Other work has succeeded. @param {boolean} hadFailed Before. */
    shortenWait(hadFailed: boolean): void;
    /** What waits is told at once: whoever reads something and leaves has read it. But it is tried once only. */
    close(): void;
    reopen(): void;
    #private;
}
export type Kind = "delivered" | "read";
export type Marked = {
    id: string;
    delivered_at: string | null;
    read_at: string | null;
};
export type Owner = {
    /**
     * The server's answers.
     */
    onMarked: (marked: Marked[]) => void;
    /**
     * It is tried again.
     */
    onWaiting: (error: import("./errors.js").ChatError) => void;
    /**
     * It is not tried again any more.
     */
    onDone: () => void;
};
