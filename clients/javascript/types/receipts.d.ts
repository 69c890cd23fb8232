/** @typedef {"delivered" | "read"} Kind */
/** @typedef {{ id: string, delivered_at: string | null, read_at: string | null }} Marked */
export class Receipts {
    /**
     * @param {import("./client.js").Context} context
     * @param {(marked: Marked[]) => void} marked The server's answers.
     */
    constructor({ http, clock, random }: import("./client.js").Context, marked: (marked: Marked[]) => void);
    /**
     * Resolves once the server has them; rejects when it will not take them.
     * @param {Kind} kind
     * @param {readonly string[]} ids
     * @returns {Promise<void>}
     */
    mark(kind: Kind, ids: readonly string[]): Promise<void>;
    hurry(): void;
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
