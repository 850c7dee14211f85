//! The playground: a prompt version as text, run with variables on its model, beside another version if wished, and saved as
//! a new version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _};
use flywheel_core::call::Call;
use flywheel_core::prompt::{PromptVersion, TemplateFormat};
use flywheel_core::prompt_file::{self, PromptFile};
use flywheel_core::template::CompiledPrompt;
use flywheel_core::{Manifest, PromptContent, PromptName};
use flywheel_gateway::trial::Trial;
use flywheel_storage::StateSession;
use flywheel_storage::events::CallFilter;
use flywheel_storage::page::PageRequest;
use http::StatusCode;
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::{Frame, PageResult, go_to, page, render};
use super::call;
use super::form::{PageForm, PageQuery, given};
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::context::Context;
use crate::operations::registry::{self, Push, PushedPrompt, find_version};
use crate::operations::trial;
use crate::problem::{ApiResult, Problem};

/// How many prompts and versions can be chosen from.
const CHOICES: u32 = 500;

/// How far back a call is looked for whose variables are something to begin with.
const LOOKED_BACK: SignedDuration = SignedDuration::from_hours(24);

/// What a field of a variable is called, before the variable's name.
const VARIABLE: &str = "variable.";

/// Where the page begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PlaygroundQuery {
    #[serde(deserialize_with = "given")]
    prompt: Option<PromptName>,
    /// A version of it; the one that is served if absent.
    #[serde(deserialize_with = "given")]
    version: Option<String>,
    /// The prompt that the version was chosen of, where that may be another.
    #[serde(deserialize_with = "given")]
    of: Option<PromptName>,
    /// A recorded call to play again.
    #[serde(deserialize_with = "given")]
    call: Option<String>,
}

/// What is in the page's form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PlaygroundForm {
    /// The prompt file.
    text: String,
    /// The name that was last read in it, for while it cannot be read.
    #[serde(deserialize_with = "given")]
    prompt: Option<PromptName>,
    /// The number of the version that the text began as.
    #[serde(deserialize_with = "given")]
    based_on: Option<u64>,
    /// A version of the same prompt to run beside it.
    #[serde(deserialize_with = "given")]
    beside: Option<String>,
    /// Messages behind the rendered ones, as JSON; of a call that is played again.
    messages: String,
    /// What changed and why, for the new version.
    description: String,
    /// `save`, or else it is run.
    action: String,
    /// Variables, by [`VARIABLE`] and their names.
    #[serde(flatten)]
    further: BTreeMap<String, String>,
}

impl PlaygroundForm {
    /// What was typed. Browsers end lines as Windows does, whatever they were given.
    fn variable(&self, name: &str) -> String {
        let field = self.further.get(&format!("{VARIABLE}{name}"));
        field.map_or_else(String::new, |text| text.replace("\r\n", "\n"))
    }

    /// Puts a recorded value into the form.
    fn set_variable(&mut self, name: &str, value: &Value) {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.further.insert(format!("{VARIABLE}{name}"), text);
    }
}

struct Choice {
    value: String,
    label: String,
    is_chosen: bool,
}

struct VariableField {
    field: String,
    name: String,
    value: String,
}

/// What one version answered.
struct Outcome {
    title: String,
    problem: Option<String>,
    output: Option<Markup>,
    tool_calls: Option<Markup>,
    facts: String,
}

#[derive(Template)]
#[template(path = "playground.html")]
struct PlaygroundPage {
    frame: Frame,
    prompts: Vec<Choice>,
    versions: Vec<Choice>,
    /// The versions once more, to begin with another.
    origins: Vec<Choice>,
    based_on: Option<u64>,
    /// How many lines of the text are shown at once.
    lines: usize,
    /// The name in the text.
    prompt: Option<String>,
    text: String,
    variables: Vec<VariableField>,
    messages: String,
    further_messages: usize,
    description: String,
    mistakes: Vec<String>,
    problem: Option<String>,
    outcomes: Vec<Outcome>,
    may_change: bool,
    has_models: bool,
}

/// `GET /playground`
pub(super) async fn show_playground(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<PlaygroundQuery>,
) -> PageResult {
    let mut form = PlaygroundForm::default();
    let is_of_another = query.of.is_some() && query.of != query.prompt;
    let mut reference = query.version.filter(|_| !is_of_another);
    let mut prompt = query.prompt;
    let call = match &query.call {
        Some(id) => Some(call::find(&context, &visitor, id).await?),
        None => None,
    };
    if let Some(call) = &call {
        let (Some(name), Some(version)) = (&call.facts.prompt, call.facts.prompt_version) else {
            return Err(Problem::invalid(
                "this call had no prompt, so there is none to play it with again",
            )
            .into());
        };
        prompt = Some(name.clone());
        reference = Some(version.to_string());
        for (name, value) in &call.content.variables {
            form.set_variable(name, value);
        }
    }
    let mut session = context.state.read().await?;
    if let Some(prompt) = &prompt {
        let reference = match reference {
            Some(reference) => reference,
            None => served_version(&mut *session, prompt).await?,
        };
        let version = find_version(&mut *session, prompt, &reference).await?;
        form.text = text_of(&version);
        form.based_on = Some(version.ordinal);
        // Searching may take long, and rollbacks read through such sessions too.
        drop(session);
        let newest = match &call {
            Some(_) => None,
            None => newest_call(&context, &visitor, &version).await,
        };
        for (name, value) in newest.iter().flat_map(|call| &call.content.variables) {
            form.set_variable(name, value);
        }
        if let Some(call) = &call {
            let own = version.content.messages.len();
            let further = call.content.messages.get(own..).unwrap_or_default();
            if !further.is_empty() {
                form.messages = Value::from(further.to_vec()).to_string();
            }
        }
    } else {
        form.text = starter(&mut *session).await?;
        drop(session);
    }
    page(&prepare(&context, &visitor, &form, None, Vec::new()).await?)
}

/// `POST /playground`
pub(super) async fn use_playground(
    State(context): State<Context>,
    visitor: Visitor,
    PageForm(form): PageForm<PlaygroundForm>,
) -> PageResult {
    visitor.caller.must_cover_all()?;
    let file = match prompt_file::parse_all(&form.text) {
        Ok(file) => file,
        Err(_) => return again(&context, &visitor, &form, None, Vec::new()).await,
    };
    if form.action == "save" {
        return match save(&context, &visitor, &form, file).await {
            Ok(path) => Ok(go_to(&path)),
            Err(problem) => again(&context, &visitor, &form, Some(problem), Vec::new()).await,
        };
    }
    match run(&context, &form, file).await {
        Ok(outcomes) => page(&prepare(&context, &visitor, &form, None, outcomes).await?),
        Err(problem) => again(&context, &visitor, &form, Some(problem), Vec::new()).await,
    }
}

/// The page with what was typed, and why it was not done.
async fn again(
    context: &Context,
    visitor: &Visitor,
    form: &PlaygroundForm,
    problem: Option<Problem>,
    outcomes: Vec<Outcome>,
) -> PageResult {
    let status = problem
        .as_ref()
        .map_or(StatusCode::UNPROCESSABLE_ENTITY, Problem::status);
    let page = prepare(context, visitor, form, problem.as_ref(), outcomes).await?;
    Ok((status, Html(render(&page)?)).into_response())
}

/// The newest call that a version answered, of those that the visitor may see: its variables are something to begin with, and
/// nothing is missing without.
async fn newest_call(
    context: &Context,
    visitor: &Visitor,
    version: &PromptVersion,
) -> Option<Call> {
    let filter = CallFilter {
        apps: visitor.caller.apps().to_vec(),
        prompt_version: Some(version.version),
        since: context.sources.clock.now().checked_sub(LOOKED_BACK).ok(),
        ..CallFilter::default()
    };
    let page = PageRequest::first(1);
    let found = context.events.list_calls(&filter, page).await.ok()?;
    let newest = found.items.first()?;
    context.events.get_call(&newest.id).await.ok()?
}

/// The version that people are served, or else the newest.
async fn served_version(session: &mut dyn StateSession, prompt: &PromptName) -> ApiResult<String> {
    let uses = session.deployments().uses_of_prompt(prompt, None).await?;
    let served = || uses.iter().filter(|item| item.current);
    let production = served().find(|item| item.environment.as_str() == "production");
    Ok(production.or_else(|| served().next()).map_or_else(
        || "latest".to_owned(),
        |item| item.prompt_version.to_string(),
    ))
}

/// A version as the text that is edited. What is said of a version is said of this one, not of the next.
fn text_of(version: &PromptVersion) -> String {
    prompt_file::format(&PromptFile {
        name: version.prompt.clone(),
        description: None,
        labels: Vec::new(),
        content: version.content.clone(),
    })
}

/// A prompt to begin with.
async fn starter(session: &mut dyn StateSession) -> ApiResult<String> {
    let models = session.models().list().await?;
    let model = models.first().map_or_else(
        || "MODEL:VERSION".to_owned(),
        |model| format!("{}:{}", model.model_id, model.model_version),
    );
    Ok(format!(
        "---\nprompt: my/first\nmodel: {model}\nformat: fstring\nparams:\n  max_tokens: 200\n---\n# system\nAnswer in one sentence.\n\n# user\n{{question}}\n"
    ))
}

async fn save(
    context: &Context,
    visitor: &Visitor,
    form: &PlaygroundForm,
    file: PromptFile,
) -> ApiResult<String> {
    let typed = form.description.trim();
    let description = file.description.unwrap_or_default();
    let description = match typed.is_empty() {
        true => description,
        false => typed.to_owned(),
    };
    if description.is_empty() {
        return Err(Problem::invalid(
            "say what changed and why: it is kept with the version",
        ));
    }
    let content = serde_json::to_value(&file.content)
        .map_err(|error| Problem::invalid(format!("the prompt cannot be written: {error}")))?;
    let push = Push {
        models: Vec::new(),
        prompts: vec![PushedPrompt {
            prompt: file.name,
            content,
            description,
            labels: file.labels,
        }],
    };
    let pushed = registry::push(context, &visitor.caller, push).await?;
    let Some(saved) = pushed.prompts.into_iter().next() else {
        return Ok("/prompts".to_owned());
    };
    if !saved.created {
        return Err(Problem::conflict(
            "unchanged",
            format!(
                "nothing to save: this is {}@{} already",
                saved.version.prompt, saved.version.ordinal
            ),
        ));
    }
    Ok(format!(
        "/prompts/{}?version={}&saved=true",
        encoded(saved.version.prompt.as_str()),
        saved.version.ordinal
    ))
}

async fn run(
    context: &Context,
    form: &PlaygroundForm,
    file: PromptFile,
) -> ApiResult<Vec<Outcome>> {
    let further: Vec<Value> = match form.messages.trim() {
        "" => Vec::new(),
        text => serde_json::from_str(text).map_err(|error| {
            Problem::invalid(format!("the messages of the call are not JSON: {error}"))
        })?,
    };
    let beside = match &form.beside {
        Some(reference) => {
            let mut session = context.state.read().await?;
            Some(find_version(&mut *session, &file.name, reference).await?)
        }
        None => None,
    };
    let edited = run_one(
        context,
        form,
        &file.name,
        "As edited".to_owned(),
        &file.content,
        further.clone(),
    );
    let Some(beside) = beside else {
        return Ok(vec![edited.await]);
    };
    let title = format!("@{}", beside.ordinal);
    let other = run_one(context, form, &file.name, title, &beside.content, further);
    let (edited, other) = tokio::join!(edited, other);
    Ok(vec![edited, other])
}

async fn run_one(
    context: &Context,
    form: &PlaygroundForm,
    prompt: &PromptName,
    title: String,
    content: &PromptContent,
    further: Vec<Value>,
) -> Outcome {
    let tried = match variables_of(form, content) {
        Ok(variables) => {
            let manifest = Manifest {
                model_id: content.model_id.clone(),
                model_version: content.model_version.clone(),
                prompt_id: prompt.clone(),
                prompt_version: content.id(),
                retriever_index_version: None,
                guards_version: None,
            };
            trial::try_out(context, &manifest, content, &variables, further).await
        }
        Err(problem) => Err(problem),
    };
    let model = format!("{}:{}", content.model_id, content.model_version);
    match tried {
        Ok(trial) => Outcome {
            title,
            problem: None,
            facts: facts_of(&model, &trial),
            output: trial.output.as_deref().map(show::text),
            tool_calls: trial
                .tool_calls
                .as_ref()
                .map(|calls| show::text(&serde_json::to_string_pretty(calls).unwrap_or_default())),
        },
        Err(problem) => Outcome {
            title,
            problem: Some(problem),
            facts: model,
            output: None,
            tool_calls: None,
        },
    }
}

fn facts_of(model: &str, trial: &Trial) -> String {
    let latency = u64::try_from(trial.latency.as_micros()).unwrap_or(u64::MAX);
    let mut facts = format!("{model}, {}", show::latency(latency));
    if let Some(usage) = trial.usage {
        let _ = write!(
            facts,
            ", {} + {} tokens",
            show::count(usage.input_tokens),
            show::count(usage.output_tokens)
        );
    }
    if let Some(cost) = trial.cost_nano_usd {
        let _ = write!(facts, ", {}", show::dollars(cost));
    }
    if let Some(reason) = trial
        .finish_reason
        .as_deref()
        .filter(|reason| *reason != "stop")
    {
        let _ = write!(facts, ", ended by `{reason}`");
    }
    facts
}

/// The variables that a content uses, from the form. Fields hold text; where the schema says that a variable is something
/// else it is read as JSON, and without a schema so is what looks like it to Jinja, which can do more with it than print it.
fn variables_of(
    form: &PlaygroundForm,
    content: &PromptContent,
) -> Result<Map<String, Value>, String> {
    let compiled = CompiledPrompt::compile(content).map_err(|error| error.to_string())?;
    let types = content
        .variables_schema
        .as_ref()
        .and_then(|schema| schema.get("properties"));
    let mut variables = Map::new();
    for name in compiled.variables() {
        let text = form.variable(name);
        let kind = types
            .and_then(|types| types.get(name)?.get("type"))
            .and_then(Value::as_str);
        let value = match kind {
            Some("string") => Value::from(text),
            Some(kind) => serde_json::from_str(&text).map_err(|error| {
                format!("variable `{name}` must be JSON of type {kind}: {error}")
            })?,
            None if content.template_format == TemplateFormat::Jinja => {
                // Only what reads back as it was typed: `1.10` is no number to somebody who prints it.
                let read = serde_json::from_str::<Value>(&text);
                read.ok()
                    .filter(|value| text.starts_with(['[', '{']) || reads_back(value, &text))
                    .unwrap_or_else(|| Value::from(text))
            }
            None => Value::from(text),
        };
        variables.insert(name.clone(), value);
    }
    Ok(variables)
}

fn reads_back(value: &Value, text: &str) -> bool {
    serde_json::to_string(value).is_ok_and(|written| written == text)
}

fn choices(versions: &[PromptVersion], chosen: Option<String>) -> Vec<Choice> {
    versions
        .iter()
        .map(|version| Choice {
            value: version.ordinal.to_string(),
            is_chosen: chosen.as_deref() == Some(version.ordinal.to_string().as_str()),
            label: format!("@{} {}", version.ordinal, version.description),
        })
        .collect()
}

async fn prepare(
    context: &Context,
    visitor: &Visitor,
    form: &PlaygroundForm,
    problem: Option<&Problem>,
    outcomes: Vec<Outcome>,
) -> ApiResult<PlaygroundPage> {
    let file = prompt_file::parse_all(&form.text);
    let name = match &file {
        Ok(file) => Some(file.name.clone()),
        Err(_) => form.prompt.clone(),
    };
    let mut session = context.state.read().await?;
    let prompts = session.prompts().list("", None, CHOICES).await?;
    let versions = match &name {
        Some(name) => session.prompts().history(name, None, CHOICES).await?,
        None => Vec::new(),
    };
    let has_models = !session.models().list().await?.is_empty();
    // A field that was there stays while the text is being mended.
    let mut names: BTreeSet<String> = form
        .further
        .keys()
        .filter_map(|field| field.strip_prefix(VARIABLE))
        .map(str::to_owned)
        .collect();
    if let Ok(file) = &file
        && let Ok(compiled) = CompiledPrompt::compile(&file.content)
    {
        names.clone_from(compiled.variables());
    }
    let further_messages = serde_json::from_str::<Vec<Value>>(&form.messages);
    Ok(PlaygroundPage {
        frame: Frame::new(context, visitor, "Playground", "/playground"),
        prompts: prompts
            .into_iter()
            .map(|prompt| Choice {
                is_chosen: name.as_ref() == Some(&prompt.name),
                value: prompt.name.to_string(),
                label: prompt.name.to_string(),
            })
            .collect(),
        origins: choices(&versions, form.based_on.map(|number| number.to_string())),
        versions: choices(&versions, form.beside.clone()),
        prompt: name.map(|name| name.to_string()),
        based_on: form.based_on,
        lines: (form.text.lines().count() + 1).clamp(12, 40),
        text: form.text.clone(),
        variables: names
            .into_iter()
            .map(|name| VariableField {
                field: format!("{VARIABLE}{name}"),
                value: form.variable(&name),
                name,
            })
            .collect(),
        messages: form.messages.clone(),
        further_messages: further_messages.map_or(0, |messages| messages.len()),
        description: form.description.clone(),
        mistakes: file.err().map_or_else(Vec::new, |mistakes| {
            mistakes.iter().map(ToString::to_string).collect()
        }),
        problem: problem.map(|problem| problem.detail().to_owned()),
        outcomes,
        may_change: visitor.may(flywheel_core::key::Permission::Change)
            && visitor.caller.must_cover_all().is_ok(),
        has_models,
    })
}
