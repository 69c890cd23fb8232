// Decides where a long message is cut until the reader asks for the rest.

/** @typedef {import("./linkify.js").Segment} Segment */

const MAX_CHARACTERS = 1_200;
const MAX_LINES = 16;
const MIN_HIDDEN_CHARACTERS = 200; // a button for less would take the room that it saves
const WORD_SEARCH_CHARACTERS = 80; // so far before the limit a space is looked for
// A character that belongs to the one before it, and the ones that bind the next character.
const CONTINUES = /^(?:\p{M}|\u200d|\ufe0f|[\u{1f3fb}-\u{1f3ff}])/u;
const BINDS_NEXT = /(?:\u200d|[\ud800-\udbff])$/;

/**
 * The first part of a long message; null if the message is short enough to be shown whole.
 * @param {readonly Segment[]} segments
 * @returns {Segment[] | null}
 */
export function fold(segments) {
  const text = segments.map((segment) => segment.text).join("");
  const cut = keepLinkWhole(segments, findCut(text));
  if (cut >= text.length || (text.length - cut < MIN_HIDDEN_CHARACTERS && text.slice(cut).split("\n").length <= MAX_LINES / 4)) return null;
  /** @type {Segment[]} */
  const head = [];
  let left = cut;
  for (const segment of segments) {
    if (left <= 0) break;
    head.push(segment.text.length <= left ? segment : { text: segment.text.slice(0, left), href: null });
    left -= segment.text.length;
  }
  return head;
}

/** @param {string} text */
function findCut(text) {
  const lines = text.split("\n");
  const lineCut = lines.length > MAX_LINES ? lines.slice(0, MAX_LINES).join("\n").length : text.length;
  if (lineCut <= MAX_CHARACTERS || text.length <= MAX_CHARACTERS) return lineCut;
  const space = text.slice(MAX_CHARACTERS - WORD_SEARCH_CHARACTERS, MAX_CHARACTERS).search(/\s\S*$/);
  if (space >= 0) return MAX_CHARACTERS - WORD_SEARCH_CHARACTERS + space;
  let cut = MAX_CHARACTERS;
  while (cut > MAX_CHARACTERS - WORD_SEARCH_CHARACTERS && (BINDS_NEXT.test(text.slice(0, cut)) || CONTINUES.test(text.slice(cut, cut + 2)))) cut--;
  return cut;
}

/** Half an address would lead elsewhere, so the cut moves before it, or behind it if it comes first. @param {readonly Segment[]} segments @param {number} cut */
function keepLinkWhole(segments, cut) {
  let start = 0;
  for (const { text, href } of segments) {
    const end = start + text.length;
    if (href !== null && start < cut && cut < end) return start > 0 ? start : end;
    start = end;
  }
  return cut;
}
