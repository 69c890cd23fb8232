// What may be sent as a message: the server's rules, told before anything is on its way.

const MAX_CHARACTERS = 8_000;

/**
 * Text that can be encoded. Half a character, as of an emoji that something cut in two, becomes U+FFFD: no encoding has it, so
 * no server could ever take it.
 * @param {string} text
 */
export function toWellFormed(text) {
  return String(text).replace(/\p{Surrogate}/gu, "\ufffd"); // with `u` only those that are alone
}

/** @param {string} content @returns {string | null} Why the server would not take it. */
export function findContentProblem(content) {
  const { length } = [...content];
  if (length < 1 || length > MAX_CHARACTERS) return `a message has 1 to ${MAX_CHARACTERS} characters`;
  if (content.includes("\0")) return "a message has no U+0000";
  if (!/[^\p{White_Space}\p{Default_Ignorable_Code_Point}]/u.test(content)) return "a message has at least one character that can be seen";
  return null;
}
