/**
 * @param {import("ehr-chat-client").Participant} person
 * @param {string} name
 */
export function createAvatar(person: import("ehr-chat-client").Participant, name: string): HTMLSpanElement;
