// Participants as keys of maps.

/** @typedef {import("ehr-chat-client").Participant} Participant */

/** Equal for the same participant. @param {Participant} person */
export const keyOfPerson = (person) => (person.user_id !== undefined ? `user:${person.user_id}` : `contact:${person.contact_id}`);

/** @param {Participant} person */
export const idOfPerson = (person) => String(person.user_id ?? person.contact_id);
