//! `flywheel call`: one request through an app, as an OpenAI client would make it.

use std::process::ExitCode;

use clap::Args;
use flywheel_core::PromptContent;
use flywheel_core::template::CompiledPrompt;
use flywheel_gateway::sse::{EventTooLarge, SseDecoder};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::variables::{self, Variable};
use super::{Context, Outcome, prompt};
use crate::client::{self, ClientError, Problem, Target};
use crate::output::amounts;
use crate::output::record::{Record, plain};
use crate::printer::OutputError;

/// Call an app and print its answer
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The app [without ENV: its last environment, usually production]
    #[arg(value_name = "APP[@ENV]")]
    app: String,
    /// A variable of the prompt: name=value, name=@file, name=@- for stdin, or name:=JSON
    #[arg(short = 'v', long = "variable", value_name = "NAME=VALUE")]
    variables: Vec<Variable>,
    /// The user on whose behalf, who decides the arm of experiments
    #[arg(long)]
    user: Option<String>,
    /// The session it belongs to
    #[arg(long)]
    session: Option<String>,
    /// Print the answer as it arrives
    #[arg(long)]
    stream: bool,
    /// A message that follows the prompt's own, or - for stdin
    message: Option<String>,
}

impl CallArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let body = self.body()?;
        let target = Target::outside("/v1/chat/completions");
        let start = Instant::now();
        let answer = if self.stream {
            let body = context.client.open_stream(&target, &body);
            let answer = context
                .printer
                .waiting("waiting for the answer", body)
                .await?;
            Answer::read_stream(context, answer).await?
        } else {
            let answer = context.client.post_to_model(&target, &body);
            let answer = context
                .printer
                .waiting("waiting for the answer", answer)
                .await?;
            if context.printer.is_json() {
                context.printer.json(&answer)?;
                return Ok(ExitCode::SUCCESS);
            }
            Answer::print_whole(context, &answer)?
        };
        answer.tell(context, start);
        if !self.variables.is_empty() && !context.printer.is_json() {
            self.warn_of_unused(context, &answer.facts).await;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Names the variables that the prompt does not have: what was typed for them changed nothing.
    async fn warn_of_unused(&self, context: &Context<'_>, facts: &Map<String, Value>) {
        let fact = |name: &str| facts.get(name).and_then(Value::as_str);
        let (Some(prompt), Some(version)) = (fact("prompt"), fact("prompt_version")) else {
            return;
        };
        // A key that may call need not be one that may read prompts.
        let Ok(found) = context.client.get(&prompt::version(prompt, version)).await else {
            return;
        };
        let content = serde_json::from_value::<PromptContent>(found["content"].clone()).ok();
        let Some(compiled) = content.and_then(|content| CompiledPrompt::compile(&content).ok())
        else {
            return;
        };
        let unused: Vec<String> = variables::names(&self.variables)
            .filter(|name| !compiled.variables().contains(*name))
            .map(|name| format!("`{name}`"))
            .collect();
        if !unused.is_empty() {
            let known: Vec<&str> = compiled.variables().iter().map(String::as_str).collect();
            context.printer.warning(&format!(
                "the prompt has no variable {}; it has {}",
                unused.join(", "),
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ));
        }
    }

    fn body(&self) -> anyhow::Result<Value> {
        let mut extension = Map::new();
        if !self.variables.is_empty() {
            extension.insert("variables".into(), variables::read(&self.variables)?.into());
        }
        if let Some(session) = &self.session {
            extension.insert("session".into(), session.clone().into());
        }
        let mut messages = Vec::new();
        if let Some(message) = &self.message {
            let text = if message == "-" {
                variables::read_text("-")?
            } else {
                message.clone()
            };
            messages.push(json!({"role": "user", "content": text}));
        }
        let mut body = json!({"model": format!("flywheel/{}", self.app), "messages": messages});
        if !extension.is_empty() {
            body["flywheel"] = extension.into();
        }
        if let Some(user) = &self.user {
            body["user"] = user.clone().into();
        }
        if self.stream {
            body["stream"] = true.into();
        }
        Ok(body)
    }
}

/// What is told of an answer once it has been printed.
#[derive(Default)]
struct Answer {
    id: String,
    facts: Map<String, Value>,
    first_text_after: Option<Instant>,
    finished: bool,
    ends_line: bool,
}

/// Why a stream is not read to its end.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    TooLarge(#[from] EventTooLarge),
    #[error("the stream holds an event that is not JSON")]
    NotJson,
    #[error(transparent)]
    Refused(Box<Problem>),
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl Answer {
    fn print_whole(context: &Context<'_>, answer: &Value) -> Result<Self, OutputError> {
        let mut this = Self::default();
        this.note_facts(Record(answer));
        for choice in Record(answer).items("choices") {
            if let Some(message) = choice.record("message") {
                this.print_message(context, message)?;
            }
        }
        this.end_line(context)?;
        Ok(this)
    }

    async fn read_stream(
        context: &Context<'_>,
        answer: Response<Incoming>,
    ) -> anyhow::Result<Self> {
        let call_id = client::call_id(&answer);
        let mut body = answer.into_body();
        let mut this = Self::default();
        let mut decoder = SseDecoder::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                this.end_line(context)?;
                return Err(context.client.interrupted().into());
            };
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            let taken = decoder.feed(&bytes, |_, data| this.take_event(context, data));
            if let Err(error) = taken {
                this.end_line(context)?;
                return Err(match error {
                    StreamError::Refused(problem) => {
                        ClientError::Refused(Box::new(problem.of_call(call_id))).into()
                    }
                    other => other.into(),
                });
            }
        }
        this.end_line(context)?;
        if !this.finished {
            return Err(context.client.interrupted().into());
        }
        Ok(this)
    }

    fn take_event(&mut self, context: &Context<'_>, data: &str) -> Result<(), StreamError> {
        if data == "[DONE]" {
            self.finished = true;
            return Ok(());
        }
        let event: Value = serde_json::from_str(data).map_err(|_| StreamError::NotJson)?;
        let record = Record(&event);
        if record.record("error").is_some() {
            // The status went out before the error was known; the provider or the server failed.
            let problem = Problem::read(StatusCode::BAD_GATEWAY, event.clone());
            return Err(problem.map_or(StreamError::NotJson, |problem| {
                StreamError::Refused(Box::new(problem))
            }));
        }
        if context.printer.is_json() {
            context.printer.json_line(&event)?;
            return Ok(());
        }
        self.note_facts(record);
        for choice in record.items("choices") {
            if let Some(delta) = choice.record("delta") {
                self.print_message(context, delta)?;
            }
        }
        Ok(())
    }

    fn note_facts(&mut self, answer: Record<'_>) {
        if let Some(id) = answer.optional("id") {
            self.id = id.to_owned();
        }
        if let Some(Value::Object(facts)) = answer.member("flywheel") {
            self.facts.extend(facts.clone());
        }
    }

    fn print_message(
        &mut self,
        context: &Context<'_>,
        message: Record<'_>,
    ) -> Result<(), OutputError> {
        let text = message.text("content");
        if !text.is_empty() {
            self.first_text_after.get_or_insert_with(Instant::now);
            self.ends_line = !text.ends_with('\n');
            context.printer.raw(text)?;
        }
        for call in message.items("tool_calls") {
            self.end_line(context)?;
            context.printer.json_line(call.0)?;
        }
        Ok(())
    }

    /// Ends the last line, so that what follows does not stick to the answer.
    fn end_line(&mut self, context: &Context<'_>) -> Result<(), OutputError> {
        if std::mem::take(&mut self.ends_line) {
            context.printer.raw("\n")
        } else {
            Ok(())
        }
    }

    fn tell(&self, context: &Context<'_>, start: Instant) {
        let elapsed = |end: Instant| amounts::duration((end - start).as_micros() as f64);
        let mut parts = vec![format!("call {}", self.id)];
        for name in ["manifest", "arm"] {
            if let Some(value) = self.facts.get(name).filter(|value| !value.is_null()) {
                parts.push(format!("{name} {}", amounts::short_id(&plain(value))));
            }
        }
        if let Some(first) = self.first_text_after.filter(|_| self.finished) {
            parts.push(format!("first text after {}", elapsed(first)));
        }
        parts.push(elapsed(Instant::now()));
        context.printer.note(&parts.join("  "));
        if self.facts.get("recorded") == Some(&Value::Bool(false)) {
            context
                .printer
                .warning("the call was served but not recorded; feedback on it will have no call");
            return;
        }
        let hint = format!(
            "say what you think of it with `flywheel feedback send {} --thumbs up`",
            self.id
        );
        context.printer.tip("feedback-send", &hint);
    }
}
