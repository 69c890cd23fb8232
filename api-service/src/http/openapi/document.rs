//! Writes what poem-openapi generates, an OpenAPI 3.0 document, as OpenAPI 3.1, where a nullable field has two types. Generators of
//! models read that without a flag. It also gives each operation examples to try it with, and orders the tags.

use serde_json::{Map, Value, json};

/// Rewrites the whole document.
pub(crate) fn rewrite(document: &mut Value) {
    document["openapi"] = json!("3.1.0");
    let schemas = document["components"]["schemas"].clone();
    for operation in document["paths"].as_object_mut().into_iter().flat_map(objects).flat_map(objects) {
        // An operation without a token says so, and does not leave it open.
        let _open = operation.entry("security").or_insert_with(|| json!([]));
        operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten().for_each(lift_example);
        let body = operation.get_mut("requestBody").and_then(|body| body.pointer_mut("/content/application~1json"));
        if let Some(media) = body.and_then(Value::as_object_mut) {
            let schema = media["schema"]["$ref"].as_str().unwrap_or_default();
            let name = schema.rsplit('/').next().unwrap_or_default();
            if let Some(example) = schemas[name].get("example") {
                let _none = media.insert("example".to_owned(), example.clone());
            }
        }
    }
    order_tags(document);
    write_schemas(document);
}

fn objects(object: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    object.values_mut().filter_map(Value::as_object_mut)
}

/// Moves the example of a parameter's schema to the parameter, where every reader of documents finds it. A list has one item.
fn lift_example(parameter: &mut Value) {
    let schema = &mut parameter["schema"];
    let example = match take(schema, "example") {
        None => schema.get_mut("items").and_then(|items| take(items, "example")).map(|item| json!([item])),
        example => example,
    };
    if let Some(example) = example {
        parameter["example"] = example;
    }
}

fn take(schema: &mut Value, name: &str) -> Option<Value> {
    schema.as_object_mut().and_then(|schema| schema.shift_remove(name))
}

/// By the first operation of each tag: operations stand in the order in which a newcomer needs them.
fn order_tags(document: &mut Value) {
    let operations = document["paths"].as_object().into_iter().flat_map(Map::values).filter_map(Value::as_object);
    let names: Vec<Value> = operations.flat_map(Map::values).map(|operation| operation["tags"][0].clone()).collect();
    if let Some(tags) = document["tags"].as_array_mut() {
        // poem-openapi lists every tag that it knows, used or not.
        tags.retain(|tag| names.contains(&tag["name"]));
        tags.sort_by_key(|tag| names.iter().position(|name| *name == tag["name"]));
    }
}

/// Schemas in the dialect of OpenAPI 3.1: JSON Schema 2020-12.
fn write_schemas(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.shift_remove("nullable") == Some(json!(true)) {
                if let Some(of) = object.get_mut("type") {
                    *of = json!([of.take(), "null"]);
                } else {
                    *object = Map::from_iter([("anyOf".to_owned(), json!([object, {"type": "null"}]))]);
                }
            }
            // Outside of schemas, an example stands beside `schema`. A field may have the name `type`.
            let is_schema = object.get("type").is_some_and(|of| of.is_string() || of.is_array());
            if is_schema && let Some(example) = object.shift_remove("example") {
                let _none = object.insert("examples".to_owned(), json!([example]));
            }
            let parts = object.iter_mut().filter(|(name, _)| !matches!(name.as_str(), "example" | "examples"));
            parts.for_each(|(_, part)| write_schemas(part));
        }
        Value::Array(array) => array.iter_mut().for_each(write_schemas),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nullable_field_has_two_types_and_examples_move() {
        let mut document = json!({
            "openapi": "3.0.0",
            "tags": [{"name": "A"}, {"name": "B"}, {"name": "unused"}],
            "paths": {
                "/b": {"get": {
                    "tags": ["B"],
                    "parameters": [
                        {"name": "one", "in": "query", "schema": {"type": "string", "example": "x"}},
                        {"name": "many", "in": "query", "schema": {"type": "array", "items": {"type": "string", "example": "y"}}},
                        {"name": "none", "in": "query", "schema": {"type": "string"}},
                    ],
                }},
                "/a": {"post": {
                    "tags": ["A"],
                    "security": [{"token": []}],
                    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Row"}}}},
                }},
            },
            "components": {"schemas": {"Row": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "at": {"type": "string", "format": "date-time", "nullable": true},
                    "id": {"type": "string", "example": "x"},
                },
                "example": {"at": null, "nullable": true},
            }}},
        });
        rewrite(&mut document);
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["tags"], json!([{"name": "B"}, {"name": "A"}]));
        let (get, post) = (&document["paths"]["/b"]["get"], &document["paths"]["/a"]["post"]);
        assert_eq!((&get["security"], &post["security"]), (&json!([]), &json!([{"token": []}])));
        let parameters: Vec<_> = get["parameters"].as_array().unwrap().iter().map(|one| one.get("example")).collect();
        assert_eq!(parameters, [Some(&json!("x")), Some(&json!(["y"])), None]);
        assert!(!get.to_string().contains("examples"));
        let example = json!({"at": null, "nullable": true});
        assert_eq!(post["requestBody"]["content"]["application/json"]["example"], example);
        let row = &document["components"]["schemas"]["Row"];
        assert_eq!(row["examples"], json!([example]));
        assert_eq!(row["properties"]["at"], json!({"type": ["string", "null"], "format": "date-time"}));
        assert_eq!(row["properties"]["id"], json!({"type": "string", "examples": ["x"]}));
        assert_eq!(row["properties"]["type"], json!({"type": "string"}));
    }
}
