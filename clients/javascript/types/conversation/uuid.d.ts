/**
 * @param {number} [now] Milliseconds since 1970.
 * @returns {string}
 */
export function uuidv7(now?: number): string;
