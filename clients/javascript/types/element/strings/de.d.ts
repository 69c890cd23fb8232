/** @type {import("./index.js").Texts} */
export const de: import("./index.js").Texts;
