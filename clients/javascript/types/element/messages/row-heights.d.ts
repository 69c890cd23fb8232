export class RowHeights {
    get count(): number;
    /** The height of all rows. */
    get total(): number;
    /** @param {readonly number[]} heights */
    replace(heights: readonly number[]): void;
    /** @param {number} index @param {number} height */
    set(index: number, height: number): void;
    /** Where the row begins; the end of the last row for `count`. @param {number} index */
    offsetOf(index: number): number;
    /** The row at this position: the first or the last one for a position outside. @param {number} position */
    indexAt(position: number): number;
    #private;
}
