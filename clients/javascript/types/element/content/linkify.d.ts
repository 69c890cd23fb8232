/**
 * Splits a text. The texts of all segments, joined, are the given text.
 * @param {string} text
 * @returns {Segment[]}
 */
export function linkify(text: string): Segment[];
/**
 * `href` is null for plain text.
 */
export type Segment = {
    text: string;
    href: string | null;
};
