/** @typedef {{ first: number, last: number }} Range `last` is not part of it. */
/**
 * @param {Range} visible The rows in view.
 * @param {number} count Of all rows.
 * @returns {Range}
 */
export function computeWindow(visible: Range, count: number): Range;
/**
 * Whether the rendered rows still suffice.
 * @param {Range} rendered
 * @param {Range} visible
 * @param {number} count
 */
export function suffices(rendered: Range, visible: Range, count: number): boolean;
export const OVERSCAN_ROWS: 40;
export const MAX_ROWS: 200;
/**
 * `last` is not part of it.
 */
export type Range = {
    first: number;
    last: number;
};
