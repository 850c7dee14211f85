//! JSON Schemas of types that describe themselves to no derive.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Stands for an instant in the schemas of types that have one.
pub struct DateTime;

impl JsonSchema for DateTime {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DateTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// A name with the further characters that its kind may have.
pub(crate) fn name(description: &str, further: &[u8]) -> Schema {
    // A `-` means itself at the end only.
    let mut further: Vec<char> = further.iter().map(|byte| char::from(*byte)).collect();
    further.sort_by_key(|character| *character == '-');
    let further: String = further.into_iter().collect();
    json_schema!({
        "type": "string",
        "description": description.trim(),
        "maxLength": 128,
        "pattern": format!("^[A-Za-z0-9][A-Za-z0-9{further}]*$"),
    })
}

/// An outcome: yes and no may be sent as such, and are told as 1 and 0.
pub(crate) fn number_or_bool(generator: &mut SchemaGenerator) -> Schema {
    if generator.contract().is_serialize() {
        json_schema!({"type": "number"})
    } else {
        json_schema!({"type": ["number", "boolean"]})
    }
}
