/** @typedef {"delivered" | "read"} Kind */
/** @typedef {{ id: string, delivered_at: string | null, read_at: string | null }} Marked */
/** @typedef {{ onMarked: (marked: Marked[]) => void } & import("../retry/reported-retry.js").Owner} Owner `onMarked`: what the server stored. */
export class ReceiptSender {
    /**
     * @param {import("../context.js").Context} context
     * @param {Owner} owner
     */
    constructor({ http, clock, random }: import("../context.js").Context, owner: Owner);
    /**
     * Resolves when the server has stored the receipts. Rejects when the server refuses them.
     * @param {Kind} kind
     * @param {readonly string[]} ids
     * @returns {Promise<void>}
     */
    mark(kind: Kind, ids: readonly string[]): Promise<void>;
    /** The network, the page or a token is back. @param {boolean} [isForced] */
    retryNow(isForced?: boolean): void;
    /** Other work succeeded. @param {boolean} hadFailed Whether that work had failed before. */
    shortenWait(hadFailed: boolean): void;
    /** Sends the waiting receipts at once: a reader who leaves has read them. This is the last attempt. */
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
/**
 * `onMarked`: what the server stored.
 */
export type Owner = {
    onMarked: (marked: Marked[]) => void;
} & import("../retry/reported-retry.js").Owner;
