/** @typedef {Node | string | null | undefined | false} Child */
/**
 * Creates an element with attributes (`on…`: listeners, `dataset`) and children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h<Tag extends keyof HTMLElementTagNameMap>(tag: Tag, props?: Record<string, any>, ...children: Child[]): HTMLElementTagNameMap[Tag];
/**
 * Creates an icon. Screen readers skip it, so the text beside it must say what it means.
 * @param {string} name
 * @param {readonly string[]} paths In a square of 24.
 */
export function drawIcon(name: string, paths: readonly string[]): SVGSVGElement;
/**
 * Hands the values that a page set before the element was defined to the setters, which they hide.
 * @param {object} element
 * @param {readonly string[]} names
 */
export function upgradeProperties(element: object, names: readonly string[]): void;
/**
 * Makes `parent` hold exactly these children. Children that are in place do not move.
 * @param {Element} parent
 * @param {readonly Node[]} children
 */
export function reconcileChildren(parent: Element, children: readonly Node[]): void;
/**
 * Sets text only if it differs, so that screen readers do not repeat it.
 * @param {Node} element
 * @param {string} text
 */
export function setText(element: Node, text: string): void;
export function icon(name: keyof typeof ICONS): SVGSVGElement;
export type Child = Node | string | null | undefined | false;
declare namespace ICONS {
    let clock: string[];
    let check: string[];
    let checks: string[];
    let read: string[];
    let alert: string[];
    let back: string[];
    let down: string[];
    let send: string[];
}
export {};
