// The server's rules for the content of a message, checked before the SDK sends anything.

const MAX_CHARACTERS = 8_000;

/**
 * Text that can be encoded. A lone surrogate, as of an emoji that was cut in two, becomes U+FFFD: no encoding has it, so no server
 * could accept it.
 * @param {string} text
 */
export function toWellFormed(text) {
  return String(text).replace(/\p{Surrogate}/gu, "\ufffd"); // with `u`, only lone surrogates match
}

/** @param {string} content @returns {string | null} Why the server would reject it. */
export function findContentProblem(content) {
  const { length } = [...content];
  if (length < 1 || length > MAX_CHARACTERS) return `a message has 1 to ${MAX_CHARACTERS} characters`;
  if (content.includes("\0")) return "a message has no U+0000";
  if (!/[^\p{White_Space}\p{Default_Ignorable_Code_Point}]/u.test(content)) return "a message has at least one visible character";
  return null;
}
