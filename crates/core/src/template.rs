//! Templates of prompts: compiled once, rendered for every call.
//!
//! Two formats: `{name}` as Python's f-strings and format strings look, and Jinja. Both are strict: a variable that
//! is used and not given is an error that names it. What Jinja would only look up in a call is looked up before.

mod names;

use std::collections::BTreeSet;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value, json};

use crate::name::nearest;
use crate::prompt::{PromptContent, PromptMessage, Role, TemplateFormat};

/// How many instructions one Jinja template may run: enough for long documents, an end for endless loops.
const JINJA_FUEL: u64 = 2_000_000;

/// A mistake in a template, with its place. Lines and columns count from 1, and so do messages where people read of
/// them; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// Which message of the prompt, from 0.
    pub message_index: usize,
    /// The line in that message's text.
    pub line: usize,
    /// The column in that line.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            message_index,
            line,
            column,
            problem,
        } = self;
        write!(
            formatter,
            "message {}, line {line}, column {column}: {problem}",
            message_index + 1
        )
    }
}

impl std::error::Error for TemplateError {}

/// Why a prompt could not be rendered with the variables that were given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// Variables that the templates use were not given.
    #[error("missing {}: {}", if .0.len() == 1 { "variable" } else { "variables" }, quoted(.0))]
    MissingVariables(Vec<String>),
    /// A variable does not satisfy the prompt's schema.
    #[error("variables do not satisfy the prompt's schema: {problem}{}", if path.is_empty() { String::new() } else { format!(" (at `{path}`)") })]
    Schema {
        /// JSON pointer to the offending value.
        path: String,
        /// What the schema demands.
        problem: String,
    },
    /// A Jinja template failed while it ran.
    #[error("{0}")]
    Template(TemplateError),
}

fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A prompt's messages ready to be rendered.
pub struct CompiledPrompt {
    messages: Vec<CompiledMessage>,
    jinja: Environment<'static>,
    schema: Option<jsonschema::Validator>,
    variables: BTreeSet<String>,
}

impl fmt::Debug for CompiledPrompt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CompiledPrompt")
            .field("variables", &self.variables)
            .finish()
    }
}

struct CompiledMessage {
    role: Role,
    name: Option<String>,
    body: CompiledBody,
}

enum CompiledBody {
    Literal(String),
    Fstring(Vec<Segment>),
    Jinja {
        template: String,
        variables: BTreeSet<String>,
    },
}

enum Segment {
    Text(String),
    Variable(String),
}

impl CompiledPrompt {
    /// Compiles every message of a prompt.
    ///
    /// # Errors
    /// The first mistake in a template, with its place.
    pub fn compile(content: &PromptContent) -> Result<Self, TemplateError> {
        let mut jinja = jinja_environment();
        let mut messages = Vec::with_capacity(content.messages.len());
        let mut variables = BTreeSet::new();
        for (message_index, message) in content.messages.iter().enumerate() {
            let body = compile_body(&mut jinja, content.template_format, message_index, message)?;
            match &body {
                CompiledBody::Literal(_) => {}
                CompiledBody::Fstring(segments) => {
                    variables.extend(segments.iter().filter_map(|segment| match segment {
                        Segment::Variable(name) => Some(name.clone()),
                        Segment::Text(_) => None,
                    }));
                }
                CompiledBody::Jinja {
                    variables: used, ..
                } => {
                    variables.extend(used.iter().cloned());
                }
            }
            messages.push(CompiledMessage {
                role: message.role,
                name: message.name.clone(),
                body,
            });
        }
        // `PromptContent::check` has reported a schema that is wrong, with its place.
        let schema = content
            .variables_schema
            .as_ref()
            .and_then(|schema| jsonschema::validator_for(schema).ok());
        Ok(Self {
            messages,
            jinja,
            schema,
            variables,
        })
    }

    /// The first mistake in each message whose template does not compile.
    #[must_use]
    pub fn mistakes(content: &PromptContent) -> Vec<TemplateError> {
        let mut jinja = jinja_environment();
        let messages = content.messages.iter().enumerate();
        messages
            .filter_map(|(index, message)| {
                compile_body(&mut jinja, content.template_format, index, message).err()
            })
            .collect()
    }

    /// The names of the variables that the templates use.
    #[must_use]
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// Renders the messages in OpenAI's shape.
    ///
    /// # Errors
    /// When a variable is missing or does not satisfy the schema, or a Jinja template fails.
    pub fn render(&self, variables: &Map<String, Value>) -> Result<Vec<Value>, RenderError> {
        self.check_variables(variables)?;
        let mut context = None;
        self.messages
            .iter()
            .enumerate()
            .map(|(message_index, message)| {
                let content = match &message.body {
                    CompiledBody::Literal(text) => text.clone(),
                    CompiledBody::Fstring(segments) => render_fstring(segments, variables)?,
                    CompiledBody::Jinja {
                        template,
                        variables: used,
                    } => {
                        let context = context.get_or_insert_with(|| {
                            minijinja::Value::from(minijinja::value::Serde(variables))
                        });
                        self.jinja
                            .get_template(template)
                            .and_then(|template| template.render(context.clone()))
                            .map_err(|error| {
                                jinja_render_error(&error, message_index, used, variables)
                            })?
                    }
                };
                let mut rendered = json!({"role": message.role.as_str(), "content": content});
                if let Some(name) = &message.name {
                    rendered["name"] = name.as_str().into();
                }
                Ok(rendered)
            })
            .collect()
    }

    fn check_variables(&self, variables: &Map<String, Value>) -> Result<(), RenderError> {
        let Some(schema) = &self.schema else {
            return Ok(());
        };
        let instance = Value::Object(variables.clone());
        if let Some(error) = schema.iter_errors(&instance).next() {
            let path = error.instance_path().to_string();
            let mut problem = error.to_string();
            let is_unknown = |name: &&String| !self.variables.contains(*name);
            if let Some(unknown) = variables
                .keys()
                .find(is_unknown)
                .filter(|_| path.is_empty())
            {
                let known: Vec<&str> = self.variables.iter().map(String::as_str).collect();
                problem.push_str(&format!("; the prompt has no variable `{unknown}`"));
                if let Some(meant) = nearest(unknown, &known) {
                    problem.push_str(&format!(", did you mean `{meant}`?"));
                }
            }
            return Err(RenderError::Schema { path, problem });
        }
        Ok(())
    }
}

fn jinja_environment() -> Environment<'static> {
    let mut jinja = Environment::new();
    jinja.set_undefined_behavior(UndefinedBehavior::Strict);
    jinja.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    jinja.set_syntax(syntax());
    jinja.set_fuel(Some(JINJA_FUEL));
    jinja
}

fn compile_body(
    jinja: &mut Environment<'static>,
    format: TemplateFormat,
    message_index: usize,
    message: &PromptMessage,
) -> Result<CompiledBody, TemplateError> {
    if message.literal == Some(true) {
        return Ok(CompiledBody::Literal(message.content.clone()));
    }
    match format {
        TemplateFormat::Fstring => compile_fstring(message_index, &message.content),
        TemplateFormat::Jinja => compile_jinja(jinja, message_index, &message.content),
    }
}

fn compile_fstring(message_index: usize, source: &str) -> Result<CompiledBody, TemplateError> {
    let fail = |at: usize, problem: String| Err(template_error(message_index, source, at, problem));
    let mut segments = Vec::new();
    let mut text = String::new();
    let mut rest = source;
    while let Some(position) = rest.find(['{', '}']) {
        let at = source.len() - rest.len() + position;
        text.push_str(&rest[..position]);
        let after = &rest[position + 1..];
        let brace = &rest[position..=position];
        if after.starts_with(brace) {
            text.push_str(brace);
            rest = &after[1..];
            continue;
        }
        if brace == "}" {
            return fail(at, "single `}`; write `}}` for a brace".into());
        }
        let Some(end) = after
            .find(['}', '{', '\n'])
            .filter(|end| after[*end..].starts_with('}'))
        else {
            return fail(at, "`{` is not closed; write `{{` for a brace".into());
        };
        let name = &after[..end];
        if !is_identifier(name) {
            return fail(
                at,
                format!(
                    "`{{{name}}}` is not a variable; write `{{{{{name}}}}}` for the text itself"
                ),
            );
        }
        if !text.is_empty() {
            segments.push(Segment::Text(std::mem::take(&mut text)));
        }
        segments.push(Segment::Variable(name.to_owned()));
        rest = &after[end + 1..];
    }
    text.push_str(rest);
    if !text.is_empty() {
        segments.push(Segment::Text(text));
    }
    Ok(CompiledBody::Fstring(segments))
}

fn is_identifier(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
        && characters.all(|character| character.is_alphanumeric() || character == '_')
}

fn render_fstring(
    segments: &[Segment],
    variables: &Map<String, Value>,
) -> Result<String, RenderError> {
    let mut rendered = String::new();
    let mut missing = BTreeSet::new();
    for segment in segments {
        match segment {
            Segment::Text(text) => rendered.push_str(text),
            Segment::Variable(name) => match variables.get(name) {
                None => {
                    missing.insert(name.clone());
                }
                Some(Value::String(text)) => rendered.push_str(text),
                Some(other) => rendered.push_str(&other.to_string()),
            },
        }
    }
    if missing.is_empty() {
        Ok(rendered)
    } else {
        Err(RenderError::MissingVariables(missing.into_iter().collect()))
    }
}

fn syntax() -> SyntaxConfig {
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    // Only custom delimiters can make a syntax invalid.
    syntax.unwrap_or_default()
}

fn compile_jinja(
    jinja: &mut Environment<'static>,
    message_index: usize,
    source: &str,
) -> Result<CompiledBody, TemplateError> {
    let template = format!("message-{message_index}");
    jinja
        .add_template_owned(template.clone(), source.to_owned())
        .map_err(|error| jinja_error(&error, message_index, source))?;
    if let Some(mistake) = names::first_mistake(jinja, syntax(), source) {
        return Err(template_error(
            message_index,
            source,
            mistake.at,
            mistake.problem,
        ));
    }
    let variables = jinja
        .get_template(&template)
        .map(|compiled| compiled.undeclared_variables(false))
        .unwrap_or_default()
        .into_iter()
        // `range`, `dict` and the like are functions of Jinja, not variables of the prompt.
        .filter(|name| !jinja.globals().any(|(global, _)| global == name))
        .collect();
    Ok(CompiledBody::Jinja {
        template,
        variables,
    })
}

fn jinja_error(error: &minijinja::Error, message_index: usize, source: &str) -> TemplateError {
    let problem = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    match error.range() {
        Some(range) => template_error(message_index, source, range.start, problem),
        None => {
            // Of some operators only the line is known: the place is its first tag.
            let line = error.line().unwrap_or(1);
            let start: usize = source
                .split_inclusive('\n')
                .take(line.saturating_sub(1))
                .map(str::len)
                .sum();
            let tag = source[start..].find('{').unwrap_or(0);
            template_error(message_index, source, start + tag, problem)
        }
    }
}

fn jinja_render_error(
    error: &minijinja::Error,
    message_index: usize,
    used: &BTreeSet<String>,
    variables: &Map<String, Value>,
) -> RenderError {
    if error.kind() == ErrorKind::UndefinedError {
        let missing: Vec<_> = used
            .iter()
            .filter(|name| !variables.contains_key(*name))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return RenderError::MissingVariables(missing);
        }
    }
    let source = error.template_source().unwrap_or_default();
    RenderError::Template(jinja_error(error, message_index, source))
}

fn template_error(message_index: usize, source: &str, at: usize, problem: String) -> TemplateError {
    let (line, column) = line_and_column(source, at);
    TemplateError {
        message_index,
        line,
        column,
        problem,
    }
}

/// The line and the column, both from 1, of a byte offset.
#[must_use]
pub fn line_and_column(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(format: &str, text: &str) -> Result<CompiledPrompt, TemplateError> {
        let content: PromptContent = serde_json::from_value(json!({
            "template_format": format, "messages": [{"role": "user", "content": text}],
            "model_id": "m", "model_version": "1",
        }))
        .unwrap();
        CompiledPrompt::compile(&content)
    }

    fn render(format: &str, text: &str, variables: Value) -> Result<String, String> {
        let prompt = compile(format, text).map_err(|error| error.to_string())?;
        let rendered = prompt
            .render(variables.as_object().unwrap())
            .map_err(|error| error.to_string())?;
        Ok(rendered[0]["content"].as_str().unwrap().to_owned())
    }

    #[test]
    fn rendering() {
        let variables =
            json!({"name": "Ada", "n": 3, "list": ["a", "b"], "on": true, "html": "<b>"});
        for (format, text, expected) in [
            (
                "fstring",
                "Hi {name}, {n} {list} {{x}}",
                r#"Hi Ada, 3 ["a","b"] {x}"#,
            ),
            ("fstring", "", ""),
            ("fstring", "no variables\n", "no variables\n"),
            (
                "jinja",
                "Hi {{ name }}{% if on %}!{% endif %}\n",
                "Hi Ada!\n",
            ),
            (
                "jinja",
                "{% for x in list %}{{ x|upper }}{% endfor %}",
                "AB",
            ),
            ("jinja", "{{ html }}", "<b>"),
            (
                "jinja",
                "{% if other is defined %}{{ other }}{% else %}-{% endif %}",
                "-",
            ),
            ("jinja", "{{ other | default('none') }}", "none"),
        ] {
            assert_eq!(
                render(format, text, variables.clone()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        for (format, text, expected) in [
            (
                "fstring",
                "one\ntwo {",
                "message 1, line 2, column 5: `{` is not closed",
            ),
            (
                "fstring",
                "é } x",
                "message 1, line 1, column 3: single `}`",
            ),
            (
                "fstring",
                "{a b}",
                "message 1, line 1, column 1: `{a b}` is not a variable",
            ),
            (
                "fstring",
                "{}",
                "message 1, line 1, column 1: `{}` is not a variable",
            ),
            (
                "jinja",
                "a\n{% if x %}",
                "message 1, line 2, column 9: unexpected end of input",
            ),
            (
                "jinja",
                "a\nb {{ x | nosuch }}",
                "message 1, line 2, column 10: unknown filter `nosuch`",
            ),
        ] {
            let error = render(format, text, json!({"x": 1})).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    /// In branches that no test call would come to as well.
    #[test]
    fn jinja_names_are_looked_up_when_the_template_is_compiled() {
        for (text, expected) in [
            (
                "{% if x %}{{ y | nosuch }}{% endif %}",
                "column 18: unknown filter `nosuch`",
            ),
            (
                "{% for a in x if a is nosuch %}{% endfor %}",
                "column 23: unknown test `nosuch`",
            ),
            ("{{ [nosuch(x)] }}", "column 5: unknown function `nosuch`"),
            (
                "{% set y = {'a': x | nosuch} %}",
                "column 22: unknown filter `nosuch`",
            ),
            (
                "{% filter nosuch %}x{% endfilter %}",
                "column 11: unknown filter `nosuch`",
            ),
            (
                "{% macro m() %}{{ nosuch() }}{% endmacro %}",
                "column 19: unknown function `nosuch`",
            ),
            ("{{ x.name.upper() }}", "column 10: unknown method `upper`"),
            (
                "{{ x | replace('a') }}",
                "column 8: filter `replace` needs more arguments",
            ),
            (
                "{{ x | map('nosuch') }}{{ x | selectattr('a', 'eq') }}",
                "column 12: unknown filter `nosuch`",
            ),
            (
                "{{ x | selectattr('a', 'nosuch') }}",
                "column 24: unknown test `nosuch`",
            ),
            (
                "{{ x | upper(1) }}",
                "column 8: filter `upper` takes fewer arguments",
            ),
            (
                "{% if x is divisibleby %}{% endif %}",
                "column 12: test `divisibleby` needs more arguments",
            ),
            (
                "{{ range() }}",
                "column 4: function `range` needs more arguments",
            ),
        ] {
            let error = compile("jinja", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn jinja_names_that_exist_are_let_through() {
        for text in [
            "{{ x | default('-') | upper | indent(2) | replace('a', 'b') | tojson }}",
            "{{ x | map(attribute='a') | join(', ') }}{{ x | map('upper') | list | first }}",
            "{{ x | sort(reverse=true) | batch(2, '-') | length }}{{ x | round(2) }}{{ x | sum }}",
            "{{ x | selectattr('a', 'eq', 1) | groupby('a') }}{{ x | dictsort }}{{ x | items }}",
            "{% if x is defined and x is not none and x is divisibleby 3 and x is in [1] %}{% endif %}",
            "{% for a in range(1, 9, 2) %}{{ loop.cycle('a', 'b') }}{{ loop.index }}{% endfor %}",
            "{% macro m(a, b=1) %}{{ a }}{{ caller() }}{% endmacro %}{% call m(1) %}x{% endcall %}",
            "{% set ns = namespace(n=0) %}{% set ns.n = 1 %}{{ dict(a=1) }}",
            "{% for a in x recursive %}{{ loop(a.children) }}{% endfor %}",
            "{% for a in x %}{% set outer = loop %}{{ outer.changed(a) }}{% endfor %}",
        ] {
            if let Err(error) = compile("jinja", text) {
                panic!("{text:?}: {error}");
            }
        }
    }

    #[test]
    fn missing_variables_are_named() {
        for (format, text) in [
            ("fstring", "{a} {b} {c}"),
            ("jinja", "{{ a }} {{ b }} {{ c }}"),
        ] {
            let error = render(format, text, json!({"b": 1})).unwrap_err();
            assert_eq!(error, "missing variables: `a`, `c`", "{format}");
        }
    }

    /// Also those that a template only comes to while it runs.
    #[test]
    fn jinja_mistakes_in_values_have_a_place() {
        for (text, expected) in [
            (
                "a\nb {{ n }} {{ x.name.first }}",
                "message 1, line 2, column 15: `x.name` is undefined",
            ),
            (
                "{% for a in [x] %}{{ a.b }}{% endfor %}",
                "message 1, line 1, column 22: `a.b` is undefined",
            ),
            (
                "{{ x.a | upper }}",
                "message 1, line 1, column 10: `x.a` is undefined",
            ),
            (
                "{{ n }}\n{{ n + 1 }}",
                "message 1, line 2, column 4: tried to use + operator",
            ),
            (
                "{% for a in 3 %}{% endfor %}",
                "message 1, line 1, column 13: number is not iterable",
            ),
            (
                "a\né {{ 1 in 3 }}",
                "message 1, line 2, column 3: cannot perform a containment check",
            ),
        ] {
            let error = render("jinja", text, json!({"x": {}, "n": "1"})).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn endless_templates_end() {
        let text = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(
            render("jinja", text, json!({}))
                .unwrap_err()
                .contains("fuel")
        );
    }

    #[test]
    fn variables_of_both_formats_are_found() {
        for (format, text) in [
            ("fstring", "{a}{{x}}{b}"),
            (
                "jinja",
                "{{ a.x }}{% for i in range(b) %}{{ i }}{% endfor %}",
            ),
        ] {
            let variables = compile(format, text).unwrap().variables;
            assert_eq!(
                variables.into_iter().collect::<Vec<_>>(),
                ["a", "b"],
                "{format}"
            );
        }
    }

    #[test]
    fn a_schema_is_enforced() {
        let content: PromptContent = serde_json::from_value(json!({
            "template_format": "fstring", "messages": [{"role": "user", "content": "{n}"}],
            "model_id": "m", "model_version": "1",
            "variables_schema": {"required": ["n"], "properties": {"n": {"type": "integer"}}},
        }))
        .unwrap();
        let prompt = CompiledPrompt::compile(&content).unwrap();
        for (variables, expected) in [
            (json!({"n": "x"}), "(at `/n`)"),
            (json!({}), "\"n\" is a required property"),
            (
                json!({"m": 1}),
                "\"n\" is a required property; the prompt has no variable `m`",
            ),
        ] {
            let error = prompt
                .render(variables.as_object().unwrap())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
