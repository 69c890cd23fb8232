export function keyOfPerson(person: Participant): string;
export function idOfPerson(person: Participant): string;
export type Participant = import("ehr-chat-client").Participant;
