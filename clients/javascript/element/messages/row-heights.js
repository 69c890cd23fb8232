// The heights of all rows, rendered or not, and the positions that follow from them. It knows no DOM.

export class RowHeights {
  /** @type {number[]} */
  #heights = [];
  /** `#offsets[i]` is where row `i` begins. */
  #offsets = new Float64Array(1);
  /** The first row whose offset may be wrong. */
  #dirtyFrom = 0;

  get count() {
    return this.#heights.length;
  }

  /** The height of all rows. */
  get total() {
    return this.offsetOf(this.count);
  }

  /** @param {readonly number[]} heights */
  replace(heights) {
    this.#heights = [...heights];
    if (this.#offsets.length < heights.length + 1) this.#offsets = new Float64Array(heights.length * 2 + 1);
    this.#dirtyFrom = 0;
  }

  /** @param {number} index @param {number} height */
  set(index, height) {
    if (this.#heights[index] === height) return;
    this.#heights[index] = height;
    this.#dirtyFrom = Math.min(this.#dirtyFrom, index);
  }

  /** Where the row begins; the end of the last row for `count`. @param {number} index */
  offsetOf(index) {
    for (; this.#dirtyFrom < this.count; this.#dirtyFrom++) {
      this.#offsets[this.#dirtyFrom + 1] = this.#offsets[this.#dirtyFrom] + this.#heights[this.#dirtyFrom];
    }
    return this.#offsets[Math.max(Math.min(index, this.count), 0)];
  }

  /** The row at this position: the first or the last one for a position outside. @param {number} position */
  indexAt(position) {
    let low = 0;
    let high = Math.max(this.count - 1, 0);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.offsetOf(middle) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
