/**
 * The first part of a long message; null if the message is short enough to be shown whole.
 * @param {readonly Segment[]} segments
 * @returns {Segment[] | null}
 */
export function fold(segments: readonly Segment[]): Segment[] | null;
export type Segment = import("./linkify.js").Segment;
