//! A row as a FHIR R4 AuditEvent (<https://hl7.org/fhir/R4/auditevent.html>), in the shape of IHE's Basic Audit Log
//! Patterns (<https://profiles.ihe.net/ITI/BALP/>).
//!
//! Participants are named by the EHR's identifiers, without references: this service does not know which FHIR resource stands for
//! them.

use serde_json::{Value, json};

use super::row::Row;
use shared::kit::timestamp::timestamp;

const BALP: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit";
const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const BALP_ENTITY_TYPE: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
/// Code system of this service.
const OWN: &str = "urn:ehr-chat";

/// FHIR's action code, the interaction, and the BALP pattern of an action.
struct Kind {
    letter: &'static str,
    interaction: Option<&'static str>,
    pattern: Option<&'static str>,
}

impl Kind {
    fn from_action(action: &str) -> Self {
        let (letter, interaction, pattern) = match action {
            "send" => ("C", Some("create"), Some("Create")),
            "history.read" | "inbox.read" | "presence.read" | "export" => ("R", Some("read"), Some("Read")),
            "mark.read" | "mark.delivered" => ("U", Some("update"), Some("Update")),
            _ => ("E", None, None),
        };
        Self { letter, interaction, pattern }
    }
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({"system": system, "code": code, "display": display})
}

fn concept(system: &str, code: &str, display: &str) -> Value {
    json!({"coding": [coding(system, code, display)]})
}

/// The FHIR agent of an actor like `user:doc123`.
fn person(text: &str) -> Value {
    let (kind, id) = text.split_once(':').unwrap_or((text, text));
    let mut who = json!({"identifier": {"system": format!("{OWN}:{kind}"), "value": id}});
    let resource = match kind {
        "user" => Some("Practitioner"),
        "contact" => Some("Patient"),
        "service" | "operator" | "system" => Some("Device"),
        _ => None,
    };
    if let Some(resource) = resource {
        who["type"] = json!(resource);
    }
    who
}

fn own(kind: &str, id: &str) -> Value {
    json!({"identifier": {"system": format!("{OWN}:{kind}"), "value": id}})
}

/// Outcome codes of R4: 0 success, 4 minor failure, 8 serious failure.
fn outcome(outcome: i16) -> (&'static str, String) {
    match outcome {
        1000.. => (if outcome >= 4000 { "4" } else { "0" }, format!("close code {outcome}")),
        500.. => ("8", format!("HTTP {outcome}")),
        400.. => ("4", format!("HTTP {outcome}")),
        100.. => ("0", format!("HTTP {outcome}")),
        _ => ("0", "done".to_owned()),
    }
}

/// The participants that a row names.
fn participants(row: &Row) -> impl Iterator<Item = &str> {
    [Some(row.actor.as_str()), row.acts_for.as_deref(), row.counterpart.as_deref()].into_iter().flatten()
}

/// The AuditEvent of the row at this position.
#[must_use]
pub fn audit_event(chain: i64, n: i64, row: &Row) -> Value {
    let kind = Kind::from_action(&row.action);
    let patient = participants(row).find(|participant| participant.starts_with("contact:"));
    let (code, mut description) = outcome(row.outcome);
    if row.times > 1 {
        description.push_str(&format!(", {} times", row.times));
    }
    if let Some(detail) = &row.detail {
        description.push_str(&format!(": {detail}"));
    }
    let mut subtype = vec![coding(&format!("{OWN}:action"), &row.action, &row.action)];
    if let Some(interaction) = kind.interaction {
        subtype.insert(0, coding(INTERACTION, interaction, interaction));
    }
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": format!("{chain}-{n}"),
        "type": type_of(&row.action),
        "subtype": subtype,
        "action": kind.letter,
        "recorded": row.time().map(timestamp),
        "outcome": code,
        "outcomeDesc": description,
        "agent": agents(row, &kind),
        "source": {
            "site": row.location_id.as_deref().unwrap_or("ehr-chat"),
            "observer": {"type": "Device", "identifier": {"system": format!("{OWN}:system"), "value": "ehr-chat"}},
            "type": [coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server")],
        },
        "entity": entities(row, patient),
    });
    if let Some(pattern) = kind.pattern {
        let of_patient = if patient.is_some() { "Patient" } else { "" };
        event["meta"] = json!({"profile": [format!("{BALP}.{of_patient}{pattern}")]});
    }
    event
}

fn type_of(action: &str) -> Value {
    match action {
        "socket.open" | "socket.close" | "socket.auth" | "ticket.issue" => coding(DCM, "110114", "User Authentication"),
        "revoke" => coding(DCM, "110113", "Security Alert"),
        "export" => coding(DCM, "110101", "Audit Log Used"),
        "lost" => coding(DCM, "110100", "Application Activity"),
        _ => coding(EVENT_TYPE, "rest", "RESTful Operation"),
    }
}

/// The requestor, the participant acted for, and this service.
fn agents(row: &Row, kind: &Kind) -> Vec<Value> {
    let is_read = kind.letter == "R";
    let (part, display) = if is_read { ("IRCP", "information recipient") } else { ("AUT", "author (originator)") };
    let mut asked =
        json!({"type": concept(PARTICIPATION, part, display), "who": person(&row.actor), "requestor": true});
    let mut client =
        json!({"type": concept(DCM, "110153", "Source Role ID"), "who": own("client", &row.actor), "requestor": false});
    if let Some(source) = &row.source {
        let network = json!({"address": source, "type": "2"});
        asked["network"] = network.clone();
        client["network"] = network;
    }
    let server = json!({
        "type": concept(DCM, "110152", "Destination Role ID"),
        "who": own("system", "ehr-chat"),
        "requestor": false,
    });
    let mut agents = vec![asked, client, server];
    if let Some(acts_for) = &row.acts_for {
        let represented = json!({
            "type": concept(PARTICIPATION, "RESP", "responsible party"),
            "who": person(acts_for),
            "requestor": false,
        });
        agents.insert(1, represented);
    }
    agents
}

fn entities(row: &Row, patient: Option<&str>) -> Vec<Value> {
    let entity = |what: Value, (code, display), role: Option<(&str, &str)>| {
        let mut entity = json!({"what": what, "type": coding(ENTITY_TYPE, code, display)});
        if let Some((role, display)) = role {
            entity["role"] = coding(OBJECT_ROLE, role, display);
        }
        entity
    };
    const OBJECT: (&str, &str) = ("2", "System Object");
    const DATA: Option<(&str, &str)> = Some(("4", "Domain Resource"));
    let mut entities = Vec::new();
    if let Some(patient) = patient {
        entities.push(entity(person(patient), ("1", "Person"), Some(("1", "Patient"))));
    }
    if let Some(id) = &row.conversation_id {
        entities.push(entity(own("conversation", &id.to_string()), OBJECT, DATA));
    }
    for id in row.message_ids.iter().flatten() {
        entities.push(entity(own("message", &id.to_string()), OBJECT, DATA));
    }
    if entities.is_empty() {
        // An AuditEvent needs an entity: at least the service itself.
        entities.push(entity(own("system", "ehr-chat"), OBJECT, DATA));
    }
    if let Some(location) = &row.location_id {
        entities.push(entity(own("location", location), ("3", "Organization"), Some(("2", "Location"))));
    }
    if let Some(request_id) = &row.request_id {
        let what = json!({"identifier": {"value": request_id}});
        entities.push(json!({"what": what, "type": coding(BALP_ENTITY_TYPE, "XrequestId", "X-Request-Id")}));
    }
    entities
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::contract::audit::{Action, AuditActor, AuditEntry};
    use shared::contract::http::request::RequestContext;
    use shared::contract::participant::{Conversation, Participant};
    use uuid::Uuid;

    fn conversation(other: &str) -> Conversation {
        let [one, other] = ["user:doc123", other].map(|text| text.parse().unwrap());
        Conversation::new("loc1".parse().unwrap(), one, other).unwrap()
    }

    fn by() -> RequestContext {
        RequestContext { request_id: "r1".into(), address: [203, 0, 113, 9].into() }
    }

    #[test]
    fn send_maps_to_patient_create_event() {
        let mut entry = AuditEntry::new("user:doc123".parse().unwrap(), Action::Send, 201)
            .in_conversation(&conversation("contact:pat456"), None)
            .with_request(&by());
        entry.message_ids = vec![Uuid::from_u128(7)];
        let event = audit_event(3, 9, &Row::from(&entry));
        assert_eq!(event["id"], "3-9");
        assert_eq!(event["meta"]["profile"], json!([format!("{BALP}.PatientCreate")]));
        assert_eq!((&event["action"], &event["outcome"]), (&json!("C"), &json!("0")));
        assert_eq!(event["subtype"][0]["code"], "create");
        assert_eq!(event["agent"][0]["who"]["identifier"]["value"], "doc123");
        assert_eq!(event["agent"][0]["network"]["address"], "203.0.113.9");
        let patient = event["entity"].as_array().unwrap().iter().find(|entity| entity["role"]["code"] == "1").unwrap();
        assert_eq!(
            (&patient["what"]["type"], &patient["what"]["identifier"]["value"]),
            (&json!("Patient"), &json!("pat456"))
        );
        assert!(event["entity"].to_string().contains(&Uuid::from_u128(7).to_string()));
        assert!(event["entity"].to_string().contains("XrequestId"));
    }

    #[test]
    fn event_without_patient_uses_plain_pattern() {
        let entry = AuditEntry::new("user:doc123".parse().unwrap(), Action::HistoryRead, 403)
            .in_conversation(&conversation("user:nurse"), None);
        let event = audit_event(1, 1, &Row::from(&AuditEntry { times: 3, ..entry }));
        assert_eq!(event["meta"]["profile"], json!([format!("{BALP}.Read")]));
        assert_eq!((&event["outcome"], &event["outcomeDesc"]), (&json!("4"), &json!("HTTP 403, 3 times")));
    }

    fn whose() -> impl Strategy<Value = Option<Participant>> {
        prop::option::of("(user|contact):[a-z0-9]{1,9}".prop_map(|text| text.parse().unwrap()))
    }

    fn who() -> impl Strategy<Value = AuditActor> {
        "(user|contact|service|operator):[a-z0-9]{1,9}|anonymous|system".prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn audit_event_has_all_required_r4_fields(
            who in who(), action in prop::sample::select(Action::ALL), outcome in 0..4_999_u16,
            acts_for in whose(), counterpart in whose(), ids in prop::collection::vec(any::<u128>(), 0..3),
            with_request: bool, times in 1..5_u32,
        ) {
            let entry = AuditEntry {
                acts_for, counterpart, times,
                message_ids: ids.into_iter().map(Uuid::from_u128).collect(),
                request: with_request.then(by),
                ..AuditEntry::new(who, action, outcome)
            };
            let line = audit_event(1, 2, &Row::from(&entry)).to_string();
            prop_assert!(!line.contains('\n'));
            let event: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&event["resourceType"], "AuditEvent");
            prop_assert!(event["recorded"].as_str().is_some_and(|at| at.ends_with('Z')));
            prop_assert!(event["type"]["code"].is_string() && event["source"]["observer"].is_object());
            prop_assert!(["C", "R", "U", "E"].contains(&event["action"].as_str().unwrap()));
            prop_assert!(["0", "4", "8"].contains(&event["outcome"].as_str().unwrap()));
            let agents = event["agent"].as_array().unwrap();
            prop_assert!(agents.iter().all(|agent| agent["who"].is_object() && agent["requestor"].is_boolean()));
            prop_assert_eq!(agents.iter().filter(|agent| agent["requestor"] == true).count(), 1);
            let entities = event["entity"].as_array().unwrap();
            prop_assert!(!entities.is_empty());
            prop_assert!(entities.iter().all(|entity| entity["what"].is_object() && entity["type"]["code"].is_string()));
        }
    }
}
