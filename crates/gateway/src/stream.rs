//! A streamed answer: passed on as it arrives, its end held back until the call is recorded.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use flywheel_core::call::CallStatus;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};

use crate::answer::{Transcript, into_chunks};
use crate::chat::{AboutCall, Answered};
use crate::endpoint::{AnswerBody, Deadline, Endpoint, LARGEST_ANSWER};
use crate::error::{Failure, GatewayError, ProviderError, ProviderErrorKind};
use crate::provider::format::{StreamDecoder, StreamEvent, WireRequest};
use crate::record::micros;
use crate::routing::ModelRoute;
use crate::run::{Run, report_failure};

/// Lines that may wait for a slow client before its provider is made to wait too.
const LINES_AHEAD: usize = 64;

/// How long the end of a body may take after the end of the stream inside it, before its connection is closed instead.
const REST_OF_BODY: Duration = Duration::from_millis(100);

/// A stream whose first event has arrived, so that nothing of it need be repeated.
pub(crate) struct OpenStream {
    body: AnswerBody,
    decoder: Box<dyn StreamDecoder>,
    events: VecDeque<StreamEvent>,
    failed: Option<ProviderError>,
    ended: bool,
    deadline: Deadline,
    /// When the first event came.
    first_byte: Instant,
}

/// Sends a request and waits for the first event of its answer, which must come before `first` at the latest.
pub(crate) async fn open(
    endpoint: &Endpoint,
    request: WireRequest,
    first: Deadline,
    deadline: Deadline,
) -> Result<OpenStream, ProviderError> {
    let first_byte = Deadline::within(endpoint.timeouts.first_byte).earlier(first);
    let body = endpoint.send(request, first_byte, deadline).await?;
    let mut stream = OpenStream {
        body,
        decoder: endpoint.format.stream_decoder(),
        events: VecDeque::new(),
        failed: None,
        ended: false,
        deadline,
        first_byte: Instant::now(),
    };
    while stream.events.is_empty() && !stream.ended {
        tokio::time::timeout_at(first_byte.at, stream.read_more())
            .await
            .map_err(|_| endpoint.too_late(first_byte, deadline))?;
        if let Some(error) = stream.failed.take() {
            return Err(error);
        }
    }
    if stream.events.is_empty() {
        return Err(ProviderError::new(
            ProviderErrorKind::Interrupted,
            format!(
                "provider `{}` ended its stream before the first event",
                endpoint.name
            ),
        ));
    }
    stream.first_byte = Instant::now();
    Ok(stream)
}

impl OpenStream {
    /// Reads the next piece and decodes it. Events that came before a failure are kept.
    async fn read_more(&mut self) {
        let data = match self.body.frame().await {
            None => {
                self.ended = true;
                return;
            }
            Some(Err(error)) => {
                self.failed = Some(error);
                return;
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(_) => return,
            },
        };
        let mut events = Vec::new();
        if let Err(error) = self.decoder.feed(&data, &mut events) {
            self.failed = Some(error);
        }
        self.events.extend(events);
    }

    /// Reads to the end of the body, without looking at it.
    async fn read_rest(mut self) {
        while let Some(Ok(_)) = self.body.frame().await {}
    }
}

/// How a stream came to its end.
enum End {
    Complete,
    ClientClosed,
    Failed(ProviderError),
}

/// Passes a stream on to the client, then records the call and lets the end out.
pub(crate) async fn pump(
    mut run: Run,
    mut open: OpenStream,
    model: Arc<ModelRoute>,
    answer: oneshot::Sender<Result<Answered, GatewayError>>,
) {
    run.call.facts.first_byte_us = Some(micros(
        open.first_byte.saturating_duration_since(run.arrived),
    ));
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    let about = AboutCall::of(&run.call);
    let mut relay = Relay {
        id: run.call.id.clone(),
        created: run.call.started_at.as_second(),
        model: model.provider_model.clone(),
        include_usage: run.body.include_usage,
        sender,
        client: ClientTime {
            longest_wait: run.gateway.options.client_wait,
            left: model.endpoint.timeouts.total,
            waited: Duration::ZERO,
            is_stalled: false,
        },
        held: Vec::new(),
        transcript: Transcript::default(),
    };
    // A caller that has gone already is noticed with the first line.
    let _ = answer.send(Ok(Answered::Stream {
        about: about.clone(),
        lines,
    }));
    let end = relay.run(&mut run, &mut open, &model.endpoint).await;
    if matches!(end, End::Complete) && !open.ended {
        // The end of the body is on its way; once it was read, the connection serves further calls.
        let rest = async move { tokio::time::timeout(REST_OF_BODY, open.read_rest()).await };
        run.gateway.tasks.spawn(rest);
    } else {
        // What is left of the provider's answer is not wanted; closing the connection stops the generation.
        drop(open);
    }
    run.take_transcript(&relay.transcript, &model);
    match end {
        End::Complete => {
            model.endpoint.breaker.report(true);
            let recorded = run.record().await;
            if let (Err(failure), true) = (&recorded, run.must_record()) {
                relay.send_error(failure).await;
                return;
            }
            relay.finish(about.member, recorded.is_ok()).await;
        }
        End::ClientClosed => {
            model.endpoint.breaker.report(true);
            run.call.facts.status = CallStatus::ClientClosed;
            if relay.client.is_stalled {
                let waited = relay.client.longest_wait.as_secs_f64();
                tracing::info!(call.id = %run.call.id, client.wait_seconds = waited, "a client took nothing of its stream for too long");
                run.call.facts.error_kind = Some("client_stalled".to_owned());
                let problem = "the client did not take what it was sent".to_owned();
                run.call.content.error = Some(problem);
            }
            // The failure to record was logged and counted; nobody is left to be told.
            let _ = run.record().await;
        }
        End::Failed(error) => {
            report_failure(&model.endpoint, &error);
            let failure = Failure::Provider {
                provider: model.endpoint.name.clone(),
                error,
            };
            run.fail(&failure).await;
            relay.send_error(&failure).await;
        }
    }
}

struct Relay {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    sender: mpsc::Sender<Bytes>,
    client: ClientTime,
    /// Chunks that may be the last: the one with a finish reason, and the usage behind it.
    held: Vec<Map<String, Value>>,
    transcript: Transcript,
}

/// How long a client may have its stream wait: one that takes nothing must not hold its place for ever.
struct ClientTime {
    /// How long at a time.
    longest_wait: Duration,
    /// How long in all, from here on: as long as the provider, so that reading in drops gains nothing.
    left: Duration,
    /// How long it was since this was last looked at, which is neither the provider's time nor ours.
    waited: Duration,
    /// Whether it was too long.
    is_stalled: bool,
}

/// The client no longer listens, or has not taken anything for too long.
struct ClientGone;

impl Relay {
    async fn run(&mut self, run: &mut Run, open: &mut OpenStream, endpoint: &Endpoint) -> End {
        loop {
            while let Some(event) = open.events.pop_front() {
                match event {
                    StreamEvent::Done => return End::Complete,
                    StreamEvent::Chunk(mut chunk) => {
                        self.transcript.add_chunk(&chunk);
                        if self.transcript.bytes() > LARGEST_ANSWER {
                            let problem =
                                format!("the answer is larger than {LARGEST_ANSWER} bytes");
                            return End::Failed(ProviderError::new(
                                ProviderErrorKind::Malformed,
                                problem,
                            ));
                        }
                        run.stamp(&mut chunk);
                        let passed = self.pass(chunk).await;
                        let waited = std::mem::take(&mut self.client.waited);
                        run.waited += waited;
                        open.deadline.at += waited;
                        if passed.is_err() {
                            return End::ClientClosed;
                        }
                    }
                }
            }
            if let Some(error) = open.failed.take() {
                return End::Failed(error);
            }
            if open.ended {
                // Some servers close after the last chunk and leave `[DONE]` out.
                return if self.transcript.is_finished() {
                    End::Complete
                } else {
                    End::Failed(ProviderError::new(
                        ProviderErrorKind::Interrupted,
                        format!(
                            "provider `{}` ended its stream in the middle of the answer",
                            endpoint.name
                        ),
                    ))
                };
            }
            let begun = Instant::now();
            let deadline = open.deadline;
            tokio::select! {
                () = self.sender.closed() => return End::ClientClosed,
                read = tokio::time::timeout_at(deadline.at, open.read_more()) => {
                    run.waited += begun.elapsed();
                    if read.is_err() {
                        return End::Failed(endpoint.too_late(deadline, deadline));
                    }
                }
            }
        }
    }

    /// Sends a chunk on, or holds it back if it may be the last.
    async fn pass(&mut self, mut chunk: Map<String, Value>) -> Result<(), ClientGone> {
        chunk.insert("id".into(), self.id.as_str().into());
        let choices = chunk.get("choices").and_then(Value::as_array);
        let is_empty = choices.is_none_or(Vec::is_empty);
        let is_last = choices.into_iter().flatten().any(|choice| {
            choice
                .get("finish_reason")
                .is_some_and(|reason| !reason.is_null())
        });
        if is_empty && chunk.get("usage").is_some_and(Value::is_object) {
            // We ask every provider for the usage; the client gets it if it asked too.
            if self.include_usage {
                self.held.push(chunk);
            }
            return Ok(());
        }
        for before in std::mem::take(&mut self.held) {
            self.send(line(&before)).await?;
        }
        if is_last {
            self.held.push(chunk);
            return Ok(());
        }
        self.send(line(&chunk)).await
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        let bytes = match self.sender.try_send(bytes) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(ClientGone),
            Err(TrySendError::Full(bytes)) => bytes,
        };
        let client = &mut self.client;
        let begun = Instant::now();
        let limit = client.longest_wait.min(client.left);
        let sent = tokio::time::timeout(limit, self.sender.send(bytes)).await;
        let waited = begun.elapsed();
        client.waited += waited;
        client.left = client.left.saturating_sub(waited);
        client.is_stalled = sent.is_err();
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ClientGone),
        }
    }

    /// Lets the end out, with what there is to say of the call.
    async fn finish(mut self, mut member: Map<String, Value>, recorded: bool) {
        member.insert("recorded".into(), recorded.into());
        if self.held.is_empty() {
            // A provider that gives no reason for its end leaves no chunk to say what there is to say.
            self.held.push(self.empty_chunk());
        }
        if let Some(last) = self.held.last_mut() {
            last.insert("flywheel".into(), member.into());
        }
        for chunk in std::mem::take(&mut self.held) {
            if self.send(line(&chunk)).await.is_err() {
                return;
            }
        }
        let _ = self.send(done()).await;
    }

    fn empty_chunk(&self) -> Map<String, Value> {
        let choice = json!({"index": 0, "delta": {}, "finish_reason": null});
        let mut chunk = Map::new();
        chunk.insert("id".into(), self.id.as_str().into());
        chunk.insert("object".into(), "chat.completion.chunk".into());
        chunk.insert("created".into(), self.created.into());
        chunk.insert("model".into(), self.model.as_str().into());
        chunk.insert("choices".into(), json!([choice]));
        chunk
    }

    async fn send_error(&mut self, failure: &Failure) {
        let object = error_object(failure, &self.id);
        let _ = self.send(Bytes::from(format!("data: {object}\n\n"))).await;
    }
}

/// The lines of a stream whose answer is there already.
pub(crate) fn of_whole(
    completion: Map<String, Value>,
    include_usage: bool,
) -> mpsc::Receiver<Bytes> {
    let chunks = into_chunks(completion, include_usage);
    let (sender, lines) = mpsc::channel(chunks.len() + 1);
    for bytes in chunks.iter().map(line).chain([done()]) {
        // The channel has room for all of them.
        let _ = sender.try_send(bytes);
    }
    lines
}

/// A chunk as a server-sent event.
pub(crate) fn line(chunk: &Map<String, Value>) -> Bytes {
    let mut bytes = b"data: ".to_vec();
    // A map of JSON values always serialises.
    let _ = serde_json::to_writer(&mut bytes, chunk);
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

/// The end of a stream.
pub(crate) fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

/// A description of a failure for a client that is already being streamed to.
fn error_object(failure: &Failure, call_id: &str) -> Value {
    json!({"error": {
        "message": failure.to_string(),
        "type": failure.culprit().error_type(),
        "code": failure.code(),
        "param": failure.param(),
        "call_id": call_id,
    }})
}
