// Names for identifiers. The chat knows only the EHR's identifiers; a real EHR has the names. Here only the demo people have names, and
// only in development mode: elsewhere the same identifier may belong to another person.

import { t } from "./language.js";

export const development = document.querySelector('meta[name="chat-mode"]')?.content === "development";

export const DEMO_LOCATION = "loc1";

// Two patients have the same name. The birth date and the record number tell them apart.
export const DEMO_PEOPLE = [
  { user_id: "doc123", name: "Dr. Amara Okafor", aboutKey: "console.demoCardiology" },
  { user_id: "nurse7", name: "Lena Fischer", aboutKey: "console.demoNurse" },
  { contact_id: "pat456", name: "Maria Santos", birth_date: "1984-03-12", record_number: "100456" },
  { contact_id: "pat457", name: "Maria Santos", birth_date: "1951-11-30", record_number: "100457" },
  { contact_id: "pat789", name: "Jonas Weber", birth_date: "1999-07-02", record_number: "100789" },
  { contact_id: "pat812", name: "נועה לוי", birth_date: "1976-01-25", record_number: "100812" },
];

/** The two of the quick start. */
export const [DEMO_DOCTOR, , DEMO_PATIENT] = DEMO_PEOPLE;

export const isSameParticipant = (a, b) => Boolean(a && b) && a.user_id === b.user_id && a.contact_id === b.contact_id;

/**
 * The hook that gives names, birth dates and record numbers: `resolve(person)`.
 * @param {string} location_id
 */
export function createResolve(location_id) {
  return (person) => {
    const found = development && location_id === DEMO_LOCATION && DEMO_PEOPLE.find((one) => isSameParticipant(one, person));
    if (!found) return null;
    const { name, aboutKey, birth_date, record_number } = found;
    return { name, about: aboutKey && t(aboutKey), birth_date, record_number };
  };
}
