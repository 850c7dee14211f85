//! The schemas of everything that goes over the wire, as the types' own derives give them.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value};

/// Where references to what is sent and to what is received point while the document is made. A type can mean two
/// things: members with a default may be absent in a request and never are in an answer.
const SENT: &str = "/components/sent";
const RECEIVED: &str = "/components/schemas";

/// Collects the schemas of types.
pub(super) struct Schemas {
    sent: SchemaGenerator,
    received: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = |path: &'static str| {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = path.into();
                settings.meta_schema = None;
            })
        };
        Self {
            sent: settings(SENT)
                .for_deserialize()
                .with_transform(RecursiveTransform(forget_null_default))
                .into_generator(),
            received: settings(RECEIVED)
                .for_serialize()
                .with_transform(RecursiveTransform(forget_default))
                .into_generator(),
        }
    }

    /// The schema of what clients send.
    pub(super) fn of_sent<T: JsonSchema>(&mut self) -> Value {
        self.sent.subschema_for::<T>().into()
    }

    /// The same, written out where it stands.
    pub(super) fn of_sent_in_place<T: JsonSchema>(&mut self) -> Value {
        T::json_schema(&mut self.sent).into()
    }

    /// The schema of what clients receive.
    pub(super) fn of_received<T: JsonSchema>(&mut self) -> Value {
        self.received.subschema_for::<T>().into()
    }

    /// Puts the components into a document whose references point at them. What is the same sent and received becomes
    /// one component.
    pub(super) fn complete(mut self, document: &mut Value) {
        let sent = self.sent.take_definitions(true);
        let received = self.received.take_definitions(true);
        let differing = differing(&sent, &received);
        let mut components: Map<String, Value> = received;
        for (name, schema) in sent {
            components.insert(name_of_sent(&name, &differing), schema);
        }
        let mut schemas = Value::Object(components);
        point_to_components(&mut schemas, &differing);
        point_to_components(document, &differing);
        if let Value::Object(members) = &mut schemas {
            members.sort_keys();
        }
        document["components"]["schemas"] = schemas;
    }
}

/// That a member is null where it is absent goes without saying.
fn forget_null_default(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}

/// Nobody fills in what an answer leaves out.
fn forget_default(schema: &mut Schema) {
    schema.remove("default");
}

/// The types that mean something else sent than received, themselves or by what they refer to.
fn differing(sent: &Map<String, Value>, received: &Map<String, Value>) -> BTreeSet<String> {
    let mut differing = BTreeSet::new();
    loop {
        let before = differing.len();
        for (name, schema) in sent {
            let mut schema = schema.clone();
            point_to_components(&mut schema, &differing);
            if received
                .get(name)
                .is_some_and(|received| *received != schema)
            {
                differing.insert(name.clone());
            }
        }
        if differing.len() == before {
            return differing;
        }
    }
}

fn name_of_sent(name: &str, differing: &BTreeSet<String>) -> String {
    if differing.contains(name) {
        format!("{name}Input")
    } else {
        name.to_owned()
    }
}

fn point_to_components(value: &mut Value, differing: &BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(target) if name == "$ref" => {
                        let prefix = format!("#{SENT}/");
                        if let Some(sent) = target.strip_prefix(&prefix) {
                            *target = format!("#{RECEIVED}/{}", name_of_sent(sent, differing));
                        }
                    }
                    member => point_to_components(member, differing),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                point_to_components(item, differing);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Defaulted {
        #[serde(default)]
        n: u8,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Holder {
        inner: Defaulted,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Same {
        text: String,
    }

    /// A request that may leave a member out must not be described by the answer that always has it, nor the reverse.
    #[test]
    fn what_differs_by_direction_has_two_components_and_what_does_not_has_one() {
        let mut schemas = Schemas::new();
        let mut document = json!({
            "sent": [schemas.of_sent::<Holder>(), schemas.of_sent::<Same>()],
            "received": [schemas.of_received::<Holder>(), schemas.of_received::<Same>()],
        });
        schemas.complete(&mut document);
        let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        assert_eq!(
            document["sent"],
            json!([reference("HolderInput"), reference("Same")])
        );
        assert_eq!(
            document["received"],
            json!([reference("Holder"), reference("Same")])
        );
        let components = document["components"]["schemas"].as_object().unwrap();
        let names: Vec<_> = components.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "Defaulted",
                "DefaultedInput",
                "Holder",
                "HolderInput",
                "Same"
            ]
        );
        assert_eq!(components["Defaulted"]["required"], json!(["n"]));
        assert_eq!(components["DefaultedInput"].get("required"), None);
        assert_eq!(
            components["HolderInput"]["properties"]["inner"],
            reference("DefaultedInput")
        );
    }
}
