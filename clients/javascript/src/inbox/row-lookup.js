// Finds the inbox row of one conversation without an open inbox. The server gives rows by activity only, so it reads page by page. A
// conversation with unread messages is most likely among the first.

import { isInbox } from "../http/shapes.js";
import { getPeer, inboxQuery, keyOf } from "../participants/participant.js";

const FIRST_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 200; // the server's limit
const MAX_PAGES = 25;

/**
 * @param {import("../context.js").Services} services
 * @param {import("../types.js").Participant} peer
 * @param {(oldestActivity: string | null) => boolean} isNeedless Whether the rows before this time can tell nothing new; null: all rows.
 * @returns {Promise<import("../types.js").ServerConversation | null>}
 */
export async function lookUpRow(services, peer, isNeedless) {
  const { http, me } = services;
  /** @type {string | undefined} */
  let cursor;
  /** @type {string | null} */
  let oldestActivity = null;
  for (let number = 0; number < MAX_PAGES; number++) {
    if (isNeedless(oldestActivity)) return null;
    const limit = number === 0 ? FIRST_PAGE_SIZE : MAX_PAGE_SIZE;
    const page = await http.get("/chat/conversations", { ...inboxQuery(services), limit, cursor }, isInbox);
    const found = page.conversations.find((/** @type {any} */ row) => keyOf(getPeer(row, me)) === keyOf(peer));
    if (found) return found;
    if (!page.next_cursor) return null;
    cursor = page.next_cursor;
    oldestActivity = page.conversations.at(-1)?.last_activity_at ?? oldestActivity;
  }
  return null;
}
