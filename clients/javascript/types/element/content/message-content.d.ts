/** @typedef {import("../strings/index.js").Translate} Translate */
/**
 * Creates the element. `isFoldable` tells whether the message is long enough to be cut.
 * @param {string} content
 * @param {Translate} t
 * @param {{ isOpen: boolean, onToggle: (isOpen: boolean) => void }} fold Whether a long message is shown whole.
 */
export function createContent(content: string, t: Translate, { isOpen, onToggle }: {
    isOpen: boolean;
    onToggle: (isOpen: boolean) => void;
}): {
    element: HTMLDivElement;
    isFoldable: boolean;
};
export type Translate = import("../strings/index.js").Translate;
