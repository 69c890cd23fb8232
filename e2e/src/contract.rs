//! `asyncapi.yaml` as a test: each frame of a socket must be one that the document describes, member by member.
//!
//! Stricter than a client: the document asks clients to ignore members that they do not know; here one is a fault.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

const DOCUMENT: &str = include_str!("../../asyncapi.yaml");

/// The frames of each direction, by type.
struct Contract {
    from_server: BTreeMap<String, Frames>,
    from_client: BTreeMap<String, Frames>,
}

struct Frames {
    schema: Validator,
    #[cfg(test)]
    examples: Vec<Value>,
}

/// Reads a frame that the server sent.
///
/// # Errors
/// What the document does not describe about it.
pub fn from_server(text: &str) -> Result<Value, String> {
    let frame: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}: {text}"))?;
    match check(&contract().from_server, &frame) {
        Ok(()) => Ok(frame),
        Err(why) => Err(format!("the server sent what asyncapi.yaml does not describe: {why}: {frame}")),
    }
}

/// Checks a frame that a client is about to send, and fails the test if it should not.
pub fn from_client(frame: &Value) {
    if let Err(why) = check(&contract().from_client, frame) {
        panic!("a client sends what asyncapi.yaml does not describe: {why}: {frame}");
    }
}

fn check(frames: &BTreeMap<String, Frames>, frame: &Value) -> Result<(), String> {
    let kind = frame["type"].as_str().ok_or("no `type`")?;
    let Frames { schema, .. } = frames.get(kind).ok_or_else(|| format!("no such type: {kind}"))?;
    let faults: Vec<_> = schema.iter_errors(frame).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(|| {
        let document: Value = yaml_serde::from_str(DOCUMENT).expect("asyncapi.yaml is YAML");
        // `action` is what the application does, and the application is the server.
        Contract { from_server: frames(&document, "send"), from_client: frames(&document, "receive") }
    })
}

fn frames(document: &Value, action: &str) -> BTreeMap<String, Frames> {
    let operations = document["operations"].as_object().expect("operations");
    let messages = operations.values().filter(|operation| operation["action"] == action);
    messages
        .flat_map(|operation| operation["messages"].as_array().expect("messages"))
        .map(|message| {
            let message = resolve(document, message);
            let payload = resolve(document, &message["payload"]);
            let kind = payload["properties"]["type"]["const"].as_str().expect("a constant `type`").to_owned();
            let schema = validator(document, payload);
            #[cfg(test)]
            let examples = message["examples"].as_array().expect("an example of each message");
            #[cfg(test)]
            let examples = examples.iter().map(|example| example["payload"].clone()).collect();
            let frames = Frames {
                schema,
                #[cfg(test)]
                examples,
            };
            (kind, frames)
        })
        .collect()
}

/// Follows references to where something stands.
fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(pointer) = value["$ref"].as_str() {
        let found = document.pointer(pointer.trim_start_matches('#'));
        value = found.unwrap_or_else(|| panic!("{pointer} leads nowhere"));
    }
    value
}

/// A schema as `asyncapi.yaml` has it, only that no object may have other members.
fn validator(document: &Value, payload: &Value) -> Validator {
    let mut schema = payload.clone();
    let schemas = document["components"]["schemas"].clone();
    schema["components"] = json!({ "schemas": schemas });
    close(&mut schema);
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap_or_else(|error| panic!("a schema of asyncapi.yaml is none: {error}"))
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                let _open = members.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(kind: &str) -> &'static Value {
        &contract().from_server[kind].examples[0]
    }

    fn all() -> impl Iterator<Item = (&'static BTreeMap<String, Frames>, &'static Value)> {
        [&contract().from_server, &contract().from_client]
            .into_iter()
            .flat_map(|frames| frames.values().flat_map(move |kind| kind.examples.iter().map(move |one| (frames, one))))
    }

    #[test]
    fn examples_of_document_are_valid() {
        assert!(all().count() >= 17);
        for (frames, example) in all() {
            assert_eq!(check(frames, example), Ok(()), "{example}");
        }
    }

    #[test]
    fn extra_member_is_invalid() {
        for (frames, example) in all() {
            let mut more = example.clone();
            more["another"] = json!(1);
            assert!(check(frames, &more).is_err(), "{more}");
        }
        let mut message = example("message").clone();
        message["message"]["another"] = json!(1);
        assert!(check(&contract().from_server, &message).is_err(), "{message}");
    }

    #[test]
    fn missing_or_mistyped_member_is_invalid() {
        for (frames, example) in all() {
            for name in example.as_object().unwrap().keys() {
                let mut less = example.clone();
                less.as_object_mut().unwrap().remove(name);
                assert!(check(frames, &less).is_err(), "{less}");
                let mut other = example.clone();
                other[name] = json!({"of": "another type"});
                assert!(check(frames, &other).is_err(), "{other}");
            }
        }
    }

    #[test]
    fn times_and_identifiers_are_checked() {
        let delivered = example("delivered");
        for (pointer, wrong) in
            [("/delivered_at", json!("yesterday")), ("/message_ids/0", json!("no UUID")), ("/message_ids", json!([]))]
        {
            let mut frame = delivered.clone();
            *frame.pointer_mut(pointer).unwrap() = wrong;
            assert!(check(&contract().from_server, &frame).is_err(), "{frame}");
        }
        for frame in [
            json!({"type": "typing", "user_id": "no id"}),
            json!({"type": "typing", "user_id": "a", "contact_id": "b"}),
        ] {
            assert!(check(&contract().from_server, &frame).is_err(), "{frame}");
        }
    }

    #[test]
    fn directions_are_separate() {
        assert!(check(&contract().from_client, &json!({"type": "pong"})).is_err());
        assert!(check(&contract().from_server, &json!({"type": "ping"})).is_err());
        assert!(check(&contract().from_server, &json!({"content": 1})).is_err());
    }
}
