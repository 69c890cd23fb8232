/**
 * Text that can be encoded. Half a character, as of an emoji that something cut in two, becomes U+FFFD: no encoding has it, so
 * no server could ever take it.
 * @param {string} text
 */
export function toWellFormed(text: string): string;
/** @param {string} content @returns {string | null} Why the server would not take it. */
export function findContentProblem(content: string): string | null;
