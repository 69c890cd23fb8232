/**
 * @typedef {object} Owner
 * @property {import("../view/context.js").Context} context
 * @property {() => string} getPeerName
 * @property {(message: Message) => boolean} isUnfolded
 * @property {(message: Message, isUnfolded: boolean) => void} setUnfolded
 * @property {(message: Message) => void} retry
 * @property {(message: Message) => void} discard
 */
export class MessageRow {
    /**
     * @param {Row} row
     * @param {Owner} owner
     */
    constructor(row: Row, owner: Owner);
    /** @type {Row | null} */
    row: Row | null;
    /** The end of the message: a reader who has seen it has seen the message. */
    end: HTMLElement;
    element: HTMLDivElement;
    /** @returns {Message} */
    get message(): Message;
    /** Whether a part of the message is not shown. */
    get isFolded(): boolean;
    /** @param {Row} row */
    update(row: Row): void;
    /** The number of messages in the conversation, for screen readers. @param {number} size */
    setConversationSize(size: number): void;
    /** What changes without the message: the peer's name, and at midnight "Today". */
    refreshTexts(): void;
    #private;
}
export type Message = import("ehr-chat-client").Message;
export type Row = import("./rows.js").Row;
export type TextKey = import("../strings/index.js").TextKey;
export type Owner = {
    context: import("../view/context.js").Context;
    getPeerName: () => string;
    isUnfolded: (message: Message) => boolean;
    setUnfolded: (message: Message, isUnfolded: boolean) => void;
    retry: (message: Message) => void;
    discard: (message: Message) => void;
};
