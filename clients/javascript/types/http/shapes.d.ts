/** @typedef {(body: any) => boolean} Shape */
/** @type {Shape} */
export const isMessage: Shape;
/** @type {Shape} */
export const isHistory: Shape;
/** @type {Shape} */
export const isInbox: Shape;
/** @type {Shape} */
export const isMarks: Shape;
/** @type {Shape} */
export const isPresence: Shape;
export type Shape = (body: any) => boolean;
