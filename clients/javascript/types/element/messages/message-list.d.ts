/**
 * A row that stays in its place: `edge` is its top or bottom, `at` that edge's distance from the top of the view.
 * @typedef {{ key: string, edge: "top" | "bottom", at: number }} Anchor
 */
/**
 * @typedef {object} Owner
 * @property {() => void} onScroll The reader scrolled, or other rows are rendered.
 * @property {(row: MessageRow) => void} onRowAdded
 * @property {(row: MessageRow) => void} onRowRemoved
 */
export class MessageList {
    /**
     * @param {import("./message-row.js").Owner} rowOwner
     * @param {Owner} owner
     * @param {readonly Element[]} before What stands above the rows.
     * @param {readonly Element[]} after What stands below the rows.
     */
    constructor(rowOwner: import("./message-row.js").Owner, owner: Owner, before: readonly Element[], after: readonly Element[]);
    element: HTMLDivElement;
    /** Whether the list follows new messages. */
    isAtEnd: boolean;
    close(): void;
    /** The rendered rows. */
    get views(): MapIterator<MessageRow>;
    /**
     * Shows these messages.
     * @param {readonly Message[]} messages
     * @param {number | null} firstUnreadSeq The first message behind the line of new messages.
     */
    update(messages: readonly Message[], firstUnreadSeq: number | null): void;
    /** Shows texts that changed without the messages: names and the headings of days. */
    refreshTexts(): void;
    /** The number of messages in the conversation, for screen readers. @param {number} size */
    setConversationSize(size: number): void;
    scrollToEnd(): void;
    /** Scrolls to the line of new messages, or to the oldest message without one. */
    scrollToUnread(): void;
    /** Whether the reader is near the oldest row. */
    get isNearStart(): boolean;
    /** The rows in view. */
    get visible(): {
        first: number;
        last: number;
    };
    #private;
}
export type Message = import("ehr-chat-client").Message;
export type Row = import("./rows.js").Row;
/**
 * A row that stays in its place: `edge` is its top or bottom, `at` that edge's distance from the top of the view.
 */
export type Anchor = {
    key: string;
    edge: "top" | "bottom";
    at: number;
};
export type Owner = {
    /**
     * The reader scrolled, or other rows are rendered.
     */
    onScroll: () => void;
    onRowAdded: (row: MessageRow) => void;
    onRowRemoved: (row: MessageRow) => void;
};
import { MessageRow } from "./message-row.js";
