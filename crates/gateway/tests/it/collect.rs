//! Reading what the gateway answered.

use bytes::Bytes;
use flywheel_gateway::GatewayError;
use flywheel_gateway::chat::{AboutCall, Answered};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

/// A whole answer.
#[track_caller]
pub(crate) fn complete(answered: Result<Answered, GatewayError>) -> (Map<String, Value>, bool) {
    match answered {
        Ok(Answered::Complete {
            completion,
            recorded,
            ..
        }) => (completion, recorded),
        other => panic!("not a whole answer: {other:?}"),
    }
}

/// The text of a whole answer.
#[track_caller]
pub(crate) fn text(answered: Result<Answered, GatewayError>) -> String {
    let (completion, _) = complete(answered);
    completion["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A stream's lines, to be read one by one.
#[track_caller]
pub(crate) fn stream(answered: Result<Answered, GatewayError>) -> Lines {
    match answered {
        Ok(Answered::Stream { about, lines }) => Lines { about, lines },
        other => panic!("not a stream: {other:?}"),
    }
}

/// A failure.
#[track_caller]
pub(crate) fn failure(answered: Result<Answered, GatewayError>) -> GatewayError {
    match answered {
        Err(error) => error,
        other => panic!("not a failure: {other:?}"),
    }
}

/// The lines of a stream.
pub(crate) struct Lines {
    pub(crate) about: AboutCall,
    lines: mpsc::Receiver<Bytes>,
}

/// The end of a stream.
pub(crate) const DONE: &str = "[DONE]";

impl Lines {
    /// What the next event holds, without `data: `; none when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let line = String::from_utf8(self.lines.recv().await?.to_vec()).unwrap();
        let data = line
            .strip_prefix("data: ")
            .and_then(|line| line.strip_suffix("\n\n"));
        Some(
            data.unwrap_or_else(|| panic!("not an event: {line:?}"))
                .to_owned(),
        )
    }

    /// The next event, which must be a chunk.
    pub(crate) async fn chunk(&mut self) -> Value {
        let data = self.next().await.expect("the stream goes on");
        serde_json::from_str(&data).unwrap_or_else(|error| panic!("{data}: {error}"))
    }

    /// Whether nothing more has come so far.
    pub(crate) fn is_waiting(&mut self) -> bool {
        matches!(self.lines.try_recv(), Err(mpsc::error::TryRecvError::Empty))
    }

    /// Every chunk up to `[DONE]`, which must come last.
    pub(crate) async fn until_done(mut self) -> Vec<Value> {
        let mut chunks = Vec::new();
        loop {
            let data = self.next().await.expect("the stream ends with [DONE]");
            if data == DONE {
                assert_eq!(self.next().await, None, "nothing follows [DONE]");
                return chunks;
            }
            chunks.push(serde_json::from_str(&data).unwrap());
        }
    }

    /// Every event until the stream ends in whatever way.
    pub(crate) async fn whatever_comes(mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// The text that chunks add up to, for one choice.
pub(crate) fn joined(chunks: &[Value], choice: u64) -> String {
    let choices = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap());
    let deltas = choices.filter(|item| item["index"] == choice);
    deltas
        .filter_map(|item| item["delta"]["content"].as_str())
        .collect()
}
