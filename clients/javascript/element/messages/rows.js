// What each row shows besides its message: the heading of a day, the line before the first unread message, and whether it joins the
// message before it. It knows no DOM.

import { dayKey } from "../strings/dates.js";

/** @typedef {import("ehr-chat-client").Message} Message */

/**
 * @typedef {object} Row
 * @property {string} key
 * @property {Message} message
 * @property {string} day
 * @property {boolean} startsDay
 * @property {boolean} startsUnread
 * @property {boolean} isJoined The same author wrote the message before it, shortly before.
 */

const JOINED_WITHIN_MS = 5 * 60_000;

/** Keeps the rows of messages that did not change, so that 5,000 rows cost little. */
export class Rows {
  /** @type {readonly Row[]} */
  list = [];
  /** @type {Map<string, Row>} */
  #byKey = new Map();

  /**
   * @param {readonly Message[]} messages
   * @param {number | null} firstUnreadSeq
   * @returns {readonly Row[]} A row is the same object until something that it shows changes.
   */
  update(messages, firstUnreadSeq) {
    const byKey = new Map();
    /** @type {Row | null} */
    let before = null;
    let isUnreadFound = firstUnreadSeq === null;
    this.list = messages.map((message) => {
      const startsUnread = !isUnreadFound && !message.mine && Number(message.seq) >= Number(firstUnreadSeq);
      isUnreadFound ||= startsUnread;
      const row = this.#updateRow(message, before, startsUnread);
      byKey.set(row.key, row);
      before = row;
      return row;
    });
    this.#byKey = byKey;
    return this.list;
  }

  /** @param {Message} message @param {Row | null} before @param {boolean} startsUnread @returns {Row} */
  #updateRow(message, before, startsUnread) {
    const known = this.#byKey.get(message.key);
    const day = known?.message.sent_at === message.sent_at ? known.day : dayKey(message.sent_at);
    const startsDay = before?.day !== day;
    const isJoined = !startsDay && !startsUnread && before !== null && before.message.mine === message.mine
      && Date.parse(message.sent_at) - Date.parse(before.message.sent_at) < JOINED_WITHIN_MS;
    const isSame = known?.message === message && known.startsDay === startsDay && known.startsUnread === startsUnread && known.isJoined === isJoined;
    return isSame ? known : { key: message.key, message, day, startsDay, startsUnread, isJoined };
  }
}

const BASE_HEIGHT = 58;
const JOINED_HEIGHT = 48;
const LINE_HEIGHT = 22.500;
const HEADING_HEIGHT = 40;
const MAX_LINES = 20; // longer ones are folded

/**
 * The height of a row before it was rendered once.
 * @param {Row} row
 * @param {number} width Of the list, in pixels.
 */
export function estimateHeight({ message, startsDay, startsUnread, isJoined }, width) {
  const perLine = Math.max(Math.min(width * 0.85, 576) / 8, 10);
  const lines = Math.min(message.content.split("\n", MAX_LINES).length + Math.floor(message.content.length / perLine), MAX_LINES);
  return (isJoined ? JOINED_HEIGHT : BASE_HEIGHT) + (lines - 1) * LINE_HEIGHT + (startsDay ? HEADING_HEIGHT : 0) + (startsUnread ? HEADING_HEIGHT : 0);
}
