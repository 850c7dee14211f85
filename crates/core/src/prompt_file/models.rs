//! The file `models.yaml` of a folder of prompts, which declares the models they name.
//!
//! ```text
//! models:
//!   - model: smollm2:135m
//!     provider: local
//!     provider_model: SmolLM2-135M-Instruct   # the model's own name, if absent
//!     price: {input: 0.15, output: 0.6, cached_input: 0.075}   # US dollars for a million tokens
//!     aliases: [stable]
//! ```

use serde_json::{Map, Value};

use crate::model::{ModelSettings, Price};
use crate::name::{ModelName, VersionName};

use super::yaml::{Mistakes, Place, Yaml, join};
use super::{PromptFileError, normalized};

/// One model version that the file declares.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelDeclaration {
    /// The registered name, which prompts refer to.
    pub model_id: ModelName,
    /// The version.
    pub model_version: VersionName,
    /// What serves it, and what its tokens cost.
    pub settings: ModelSettings,
    /// Names that are to point at this version.
    pub aliases: Vec<VersionName>,
    /// The line on which the declaration begins, for messages.
    pub line: usize,
}

const MEMBERS: [&str; 5] = ["model", "provider", "provider_model", "price", "aliases"];
const OTHER_NAMES: [(&str, &str); 4] = [
    ("model_id", "model"),
    ("name", "model"),
    ("prices", "price"),
    ("alias", "aliases"),
];

/// Reads a model file.
///
/// # Errors
/// The first mistake, with its place in the file.
pub fn parse_models(text: &str) -> Result<Vec<ModelDeclaration>, PromptFileError> {
    parse_all_models(text).map_err(|mut mistakes| mistakes.swap_remove(0))
}

/// Reads a model file as [`parse_models`] does.
///
/// # Errors
/// Every mistake that does not follow from another, in the order of the file.
pub fn parse_all_models(text: &str) -> Result<Vec<ModelDeclaration>, Vec<PromptFileError>> {
    let text = normalized(text);
    let yaml = Yaml::parse(&text, 1).map_err(|mistake| vec![mistake])?;
    let members = match &yaml.value {
        Value::Null => return Ok(Vec::new()),
        Value::Object(members) => members,
        _ => {
            let message = "a model file must have the member `models`";
            return Err(vec![Place::new(1, 1).error(message)]);
        }
    };
    let mut mistakes = Mistakes::default();
    mistakes.take_all(yaml.check_members("", members, &["models"], &[]));
    let items = mistakes.take(yaml.items("models", members.get("models")));
    let mut declarations: Vec<ModelDeclaration> = Vec::new();
    for (path, item) in items.unwrap_or_default() {
        if let Some(declaration) = declaration(&yaml, &path, item, &mut mistakes) {
            mistakes.take(check_against(&yaml, &path, &declaration, &declarations));
            declarations.push(declaration);
        }
    }
    mistakes.or(Some(declarations))
}

fn declaration(
    yaml: &Yaml,
    path: &str,
    item: &Value,
    mistakes: &mut Mistakes,
) -> Option<ModelDeclaration> {
    let Value::Object(members) = item else {
        let message = "a model must have members, such as `model: name:version`";
        return mistakes.take(Err(yaml.error(path, message)));
    };
    mistakes.take_all(yaml.check_members(path, members, &MEMBERS, &OTHER_NAMES));
    let required = |name: &str| {
        members
            .get(name)
            .ok_or_else(|| yaml.error(path, format!("the model must have the member `{name}`")))
    };
    let model =
        required("model").and_then(|model| yaml.model_reference(&join(path, "model"), model));
    let model = mistakes.take(model);
    let provider = required("provider")
        .and_then(|provider| yaml.parsed_text(&join(path, "provider"), provider));
    let provider = mistakes.take(provider);
    let provider_model = match members.get("provider_model") {
        None | Some(Value::Null) => None,
        Some(name) => {
            let path = join(path, "provider_model");
            mistakes.take(match yaml.text(&path, name) {
                Ok("") => Err(yaml.error(&path, "`provider_model` must not be empty")),
                name => name.map(str::to_owned),
            })
        }
    };
    let price = match members.get("price") {
        None | Some(Value::Null) => None,
        Some(price) => mistakes.take_all(read_price(yaml, &join(path, "price"), price)),
    };
    let mut aliases = Vec::new();
    let items = mistakes.take(yaml.items(&join(path, "aliases"), members.get("aliases")));
    for (path, alias) in items.unwrap_or_default() {
        aliases.extend(mistakes.take(yaml.parsed_text(&path, alias)));
    }
    let (model_id, model_version) = model?;
    let provider_model = provider_model.unwrap_or_else(|| model_id.to_string());
    Some(ModelDeclaration {
        model_id,
        model_version,
        settings: ModelSettings {
            provider: provider?,
            provider_model,
            price,
        },
        aliases,
        line: yaml.place(path).line(),
    })
}

fn read_price(yaml: &Yaml, path: &str, value: &Value) -> Result<Price, Vec<PromptFileError>> {
    let incomplete =
        || vec![yaml.error(path, "a price must have the members `input` and `output`")];
    let Value::Object(members) = value else {
        return Err(incomplete());
    };
    yaml.check_members(path, members, &["input", "output", "cached_input"], &[])?;
    let amount = |name| member_price(yaml, path, members, name).map_err(|mistake| vec![mistake]);
    let (Some(input), Some(output)) = (amount("input")?, amount("output")?) else {
        return Err(incomplete());
    };
    let cached_input = amount("cached_input")?;
    Ok(Price {
        input,
        output,
        cached_input,
    })
}

fn member_price(
    yaml: &Yaml,
    path: &str,
    members: &Map<String, Value>,
    name: &str,
) -> Result<Option<f64>, PromptFileError> {
    let path = join(path, name);
    let Some(value) = members.get(name).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let number = value
        .as_f64()
        .ok_or_else(|| yaml.error(&path, format!("price `{name}` must be a number")))?;
    Price {
        input: number,
        output: 0.0,
        cached_input: None,
    }
    .check()
    .map_err(|error| yaml.error(&path, error.to_string()))?;
    Ok(Some(number))
}

/// Refuses a version that is declared twice, and an alias that would point at two versions.
fn check_against(
    yaml: &Yaml,
    path: &str,
    new: &ModelDeclaration,
    earlier: &[ModelDeclaration],
) -> Result<(), PromptFileError> {
    for other in earlier
        .iter()
        .filter(|other| other.model_id == new.model_id)
    {
        let line = other.line;
        if other.model_version == new.model_version {
            let message = format!(
                "model `{}:{}` is declared on line {line} already",
                new.model_id, new.model_version
            );
            return Err(yaml.error(&join(path, "model"), message));
        }
        if let Some(alias) = new
            .aliases
            .iter()
            .find(|alias| other.aliases.contains(alias))
        {
            let message = format!("alias `{alias}` points at the version on line {line} already");
            return Err(yaml.error(&join(path, "aliases"), message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read() {
        let text = "# Models\nmodels:\n  - model: smollm2:135m\n    provider: local\n    \
            provider_model: SmolLM2-135M-Instruct\n    \
            price: {input: 0.15, output: 1, cached_input: 0.075}\n    aliases: [stable, \"1\"]\n  \
            - model: {id: a, version: 'b:c'}\n    provider: openai\n";
        let models = parse_models(text).unwrap();
        assert_eq!(models.len(), 2);
        assert_eq!(models[0].model_version.as_str(), "135m");
        assert_eq!(models[0].settings.provider_model, "SmolLM2-135M-Instruct");
        let price = Price {
            input: 0.15,
            output: 1.0,
            cached_input: Some(0.075),
        };
        assert_eq!(models[0].settings.price, Some(price));
        assert_eq!(models[0].aliases.len(), 2);
        assert_eq!(
            (models[1].settings.provider_model.as_str(), models[1].line),
            ("a", 8)
        );
        assert_eq!(models[1].model_version.as_str(), "b:c");
        for empty in ["", "models:\n", "models: []\n"] {
            assert_eq!(parse_models(empty), Ok(Vec::new()), "{empty}");
        }
    }

    #[test]
    fn all_mistakes_are_found() {
        let text = "models:\n- model: a\n  provider: 'p q'\n  prise: 1\n- x\n- model: b:1\n";
        let mistakes = parse_all_models(text).unwrap_err();
        let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6], "{mistakes:?}");
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, line, column, message) in [
            (
                "model: []",
                1,
                1,
                "unknown member `model`; did you mean `models`?",
            ),
            ("models: {}", 1, 1, "`models` must be a list"),
            ("models:\n- x", 2, 3, "a model must have members"),
            (
                "models:\n- provider: p",
                2,
                3,
                "the model must have the member `model`",
            ),
            (
                "models:\n- model: a:1",
                2,
                3,
                "the model must have the member `provider`",
            ),
            (
                "models:\n- model: a:1\n  provider: 'p q'",
                3,
                3,
                "provider `p q` is not valid",
            ),
            (
                "models:\n- model: a:1\n  provider: p\n  prise: 1",
                4,
                3,
                "unknown member `prise`; did you mean `price`?",
            ),
            (
                "models:\n- model: a:1\n  provider: p\n  price: {input: 1}",
                4,
                3,
                "a price must have the members",
            ),
            (
                "models:\n- model: a:1\n  provider: p\n  price: {input: 1, output: -2}",
                4,
                21,
                "price `-2` must be",
            ),
            (
                "models:\n- model: a:1\n  provider: p\n  price: {input: 1, output: x}",
                4,
                21,
                "price `output` must be a number",
            ),
            (
                "models:\n- model: a:1\n  provider: p\n- model: a:1\n  provider: p",
                4,
                3,
                "model `a:1` is declared on line 2 already",
            ),
            (
                "models:\n- {model: a:1, provider: p, aliases: [s]}\n- {model: a:2, provider: p, aliases: [s]}",
                3,
                29,
                "alias `s` points at the version on line 2 already",
            ),
            ("models: [", 1, 9, "unclosed bracket"),
        ] {
            let error = parse_models(text).unwrap_err();
            assert!(error.message.contains(message), "{text}\n{error}");
            assert_eq!(
                (error.line, error.column),
                (line, column),
                "{text}\n{error}"
            );
        }
    }
}
