// Only compiled: a page with the element.

import * as element from "ehr-chat-client/element";

export const names: string[] = Object.keys(element);
