export function getSheet(): CSSStyleSheet;
