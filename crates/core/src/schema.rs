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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AppName, PromptName};

    /// A schema that refuses a name which the server takes, or the reverse, would mislead generated clients.
    #[test]
    fn the_pattern_of_a_name_takes_what_its_type_takes() {
        let mut generator = SchemaGenerator::default();
        let app = AppName::json_schema(&mut generator);
        let prompt = PromptName::json_schema(&mut generator);
        let takes = |schema: &Schema, text: &str| {
            let validator = jsonschema::validator_for(schema.as_value()).unwrap();
            validator.is_valid(&text.into())
        };
        let (longest, too_long) = ("a".repeat(128), "a".repeat(129));
        for text in [
            "a", "a.b_c-d", "a/b", "a:b", "A0", "", "-a", ".a", "a b", "a\n", "ä", "a\\b", "a[b",
            &longest, &too_long,
        ] {
            assert_eq!(
                takes(&app, text),
                AppName::new(text).is_ok(),
                "app `{text}`"
            );
            assert_eq!(
                takes(&prompt, text),
                PromptName::new(text).is_ok(),
                "prompt `{text}`"
            );
        }
    }
}
