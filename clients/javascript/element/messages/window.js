// Which rows are rendered: those in view, and some before and after them. It knows no DOM.

export const OVERSCAN_ROWS = 40; // on each side, so that fast scrolling shows no gap
export const MAX_ROWS = 200;
const SLACK_ROWS = 10; // rows that may be left on a side before others are rendered

/** @typedef {{ first: number, last: number }} Range `last` is not part of it. */

/**
 * @param {Range} visible The rows in view.
 * @param {number} count Of all rows.
 * @returns {Range}
 */
export function computeWindow(visible, count) {
  const overscan = Math.max(Math.min(OVERSCAN_ROWS, Math.floor((MAX_ROWS - (visible.last - visible.first)) / 2)), 0);
  return { first: Math.max(visible.first - overscan, 0), last: Math.min(visible.last + overscan, count) };
}

/**
 * Whether the rendered rows still suffice.
 * @param {Range} rendered
 * @param {Range} visible
 * @param {number} count
 */
export function suffices(rendered, visible, count) {
  const hasRoom = visible.last - visible.first < MAX_ROWS - 2 * SLACK_ROWS;
  const slack = hasRoom ? SLACK_ROWS : 0;
  return rendered.first <= Math.max(visible.first - slack, 0) && rendered.last >= Math.min(visible.last + slack, count);
}
