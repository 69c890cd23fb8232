/**
 * Text that can be encoded. A lone surrogate, as of an emoji that was cut in two, becomes U+FFFD: no encoding has it, so no server
 * could accept it.
 * @param {string} text
 */
export function toWellFormed(text: string): string;
/** @param {string} content @returns {string | null} Why the server would reject it. */
export function findContentProblem(content: string): string | null;
