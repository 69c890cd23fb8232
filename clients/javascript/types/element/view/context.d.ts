export type Context = {
    chat: import("ehr-chat-client").Chat;
    people: import("../people/people-directory.js").PeopleDirectory;
    t: import("../strings/index.js").Translate;
    dates: import("../strings/dates.js").Dates;
};
