//! Calls that were made elsewhere, by apps that ask their provider themselves, and are logged here.

mod known;

use flywheel_core::call::{Call, CallContent, CallFacts, CallStatus};
use flywheel_core::model::Usage;
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName, VersionName};
use flywheel_core::schema::DateTime;
use flywheel_core::{AppName, Manifest, ModelName};
use flywheel_storage::NewEvent;
use flywheel_storage::events::Appended;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::known::Known;
use crate::auth::Caller;
use crate::context::Context;
use crate::operations::call_ids;
use crate::operations::sent_events::{self, SentEvent, must_have_come, to_the_microsecond};
use crate::problem::{ApiResult, Problem};

/// A call as it is logged.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = describe_alias)]
pub struct LoggedCall {
    /// Its id, to which feedback will refer; drawn here if absent. Other apps may choose the same one.
    #[serde(default)]
    pub id: Option<String>,
    /// The app.
    pub app: AppName,
    /// The environment; that of the experiment, else the app's last one, if absent.
    #[serde(default)]
    pub environment: Option<EnvironmentName>,
    /// The manifest, as `resolve` told it, or as a prefix of its id; that of the arm if absent.
    #[serde(default)]
    pub manifest: Option<String>,
    /// The unit.
    #[serde(default, alias = "user")]
    pub unit: Option<String>,
    /// The session.
    #[serde(default)]
    pub session: Option<String>,
    /// The experiment, as `resolve` told it.
    #[serde(default)]
    pub experiment: Option<ExperimentName>,
    /// The arm, as `resolve` told it.
    #[serde(default)]
    pub arm: Option<ArmName>,
    /// The model, where no manifest names it.
    #[serde(default)]
    pub model_id: Option<ModelName>,
    /// Its version.
    #[serde(default)]
    pub model_version: Option<VersionName>,
    /// The variables.
    #[serde(default)]
    pub variables: Map<String, Value>,
    /// The messages that were sent.
    #[serde(default)]
    pub messages: Vec<Value>,
    /// The answer.
    #[serde(default)]
    pub output: Option<String>,
    /// The tool calls in the answer.
    #[serde(default)]
    pub tool_calls: Option<Value>,
    /// Whether the tools it calls could be used as they were called, for the signal `tool_success`.
    #[serde(default)]
    pub tool_success: Option<bool>,
    /// How it ended.
    #[serde(default)]
    pub status: Option<CallStatus>,
    /// What failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Why the model stopped.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// When it began; now if absent.
    #[serde(default)]
    #[schemars(with = "Option<DateTime>")]
    pub started_at: Option<Timestamp>,
    /// How long it took.
    #[serde(default)]
    pub latency_ms: Option<f64>,
    /// How long the first byte took.
    #[serde(default)]
    pub first_byte_ms: Option<f64>,
    /// The tokens it used.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Tags.
    #[serde(default)]
    pub tags: Map<String, Value>,
}

/// `user` is another name for `unit`, which derives do not tell.
fn describe_alias(schema: &mut Schema) {
    if let Some(unit) = schema.pointer("/properties/unit").cloned()
        && let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut)
    {
        properties.insert("user".into(), unit);
    }
}

/// Logs calls: all of them, or none if one is wrong.
///
/// # Errors
/// With one entry for each call that is wrong; or when the store fails.
pub async fn log(
    context: &Context,
    caller: &Caller,
    calls: Vec<LoggedCall>,
) -> ApiResult<Vec<(String, Appended)>> {
    let mut known = Known::default();
    let mut errors = Vec::new();
    let mut session = context.state.read().await?;
    for (index, call) in calls.iter().enumerate() {
        caller.must_cover(&call.app)?;
        let now = context.sources.clock.now();
        let checked = match check(call, now) {
            Ok(()) => known.look_up(&mut *session, call).await?,
            wrong => wrong,
        };
        if let Err(detail) = checked {
            errors.push((index, detail));
        }
    }
    drop(session);
    if !errors.is_empty() {
        return Err(Problem::invalid_items(calls.len(), errors));
    }
    let sent = calls
        .into_iter()
        .map(|call| {
            let has_own_id = call.id.is_some();
            // What a call costs is what its model's price was when it came first.
            let mut left_open = vec!["cost_nano_usd"];
            left_open.extend(call.started_at.is_none().then_some("started_at"));
            left_open.extend(call.environment.is_none().then_some("environment"));
            if call.arm.is_some() && call.manifest.is_none() {
                // The arm's, which earlier releases left out.
                left_open.extend(["manifest", "prompt", "prompt_version"]);
                left_open.extend(["model_id", "model_version"]);
            }
            let call = complete(context, call, &known);
            SentEvent {
                event: NewEvent::Call(Box::new(call)),
                has_own_id,
                left_open,
            }
        })
        .collect();
    sent_events::store(context, caller, sent).await
}

fn check(call: &LoggedCall, now: Timestamp) -> Result<(), String> {
    if let Some(started_at) = call.started_at {
        must_have_come("started_at", started_at, now)?;
    }
    if call
        .id
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > 200)
    {
        return Err("`id` must have 1 to 200 bytes".into());
    }
    for (name, value) in [
        ("latency_ms", call.latency_ms),
        ("first_byte_ms", call.first_byte_ms),
    ] {
        if value.is_some_and(|value| !(0.0..=1e10).contains(&value)) {
            return Err(format!(
                "`{name}` must be a number of milliseconds that is not negative"
            ));
        }
    }
    if call.arm.is_some() != call.experiment.is_some() {
        return Err("`experiment` and `arm` belong together".into());
    }
    Ok(())
}

fn complete(context: &Context, call: LoggedCall, known: &Known) -> Call {
    let manifest = known.manifest(&call);
    let of_experiment = known.environment(&call).cloned();
    let started_at = call
        .started_at
        .map_or_else(|| context.sources.clock.now(), to_the_microsecond);
    let model_id = manifest
        .map(|manifest| manifest.model_id.clone())
        .or(call.model_id);
    let model_version = manifest
        .map(|manifest| manifest.model_version.clone())
        .or(call.model_version);
    let table = context.table.load();
    let price = model_id
        .as_ref()
        .zip(model_version.as_ref())
        .and_then(|(id, version)| table.model_version(id, version)?.price);
    let environment = call.environment.or(of_experiment).or_else(|| {
        table
            .app(&call.app)
            .and_then(|routes| routes.default_environment.clone())
    });
    let microseconds = |ms: f64| (ms * 1000.0).round() as u64;
    let status = call.status.unwrap_or(if call.error.is_some() {
        CallStatus::ProviderError
    } else {
        CallStatus::Ok
    });
    Call {
        id: match call.id {
            Some(id) => call_ids::logged(&call.app, &id),
            None => context.sources.id_at(started_at),
        },
        started_at,
        facts: CallFacts {
            app: Some(call.app),
            environment,
            manifest: manifest.map(Manifest::id),
            prompt: manifest.map(|manifest| manifest.prompt_id.clone()),
            prompt_version: manifest.map(|manifest| manifest.prompt_version),
            model_id,
            model_version,
            experiment: call.experiment,
            arm: call.arm,
            unit: call.unit,
            session: call.session,
            tags: call.tags,
            idempotency_key: None,
            request_hash: None,
            redacted: false,
            status,
            error_kind: (status == CallStatus::ProviderError).then(|| "reported".to_owned()),
            finish_reason: call.finish_reason,
            tool_success: call.tool_success,
            streamed: false,
            fallback: false,
            attempts: 1,
            latency_us: call.latency_ms.map(microseconds),
            first_byte_us: call.first_byte_ms.map(microseconds),
            overhead_us: None,
            usage: call.usage,
            cost_nano_usd: price
                .zip(call.usage)
                .map(|(price, usage)| price.cost(&usage)),
        },
        content: CallContent {
            variables: call.variables,
            messages: call.messages,
            output: call.output,
            raw_output: None,
            tool_calls: call.tool_calls,
            error: call.error,
        },
    }
}
