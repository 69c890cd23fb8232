export class ReadMarker {
    /** @param {(messages: Message[]) => void} markRead */
    constructor(markRead: (messages: Message[]) => void);
    /** @param {MessageRow} row */
    add(row: MessageRow): void;
    /** @param {MessageRow} row */
    remove(row: MessageRow): void;
    /** Looks again after the wait: something changed. */
    schedule(): void;
    close(): void;
    #private;
}
export type Message = import("ehr-chat-client").Message;
export type MessageRow = import("./message-row.js").MessageRow;
