export { createLanguage } from "./strings/index.js";
