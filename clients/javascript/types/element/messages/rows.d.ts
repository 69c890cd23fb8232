/**
 * The height of a row before it was rendered once.
 * @param {Row} row
 * @param {number} width Of the list, in pixels.
 */
export function estimateHeight({ message, startsDay, startsUnread, isJoined }: Row, width: number): number;
/** Keeps the rows of messages that did not change, so that 5,000 rows cost little. */
export class Rows {
    /** @type {readonly Row[]} */
    list: readonly Row[];
    /**
     * @param {readonly Message[]} messages
     * @param {number | null} firstUnreadSeq
     * @returns {readonly Row[]} A row is the same object until something that it shows changes.
     */
    update(messages: readonly Message[], firstUnreadSeq: number | null): readonly Row[];
    #private;
}
export type Message = import("ehr-chat-client").Message;
export type Row = {
    key: string;
    message: Message;
    day: string;
    startsDay: boolean;
    startsUnread: boolean;
    /**
     * The same author wrote the message before it, shortly before.
     */
    isJoined: boolean;
};
