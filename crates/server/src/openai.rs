//! The OpenAI door: chat completions, models and embeddings, with OpenAI's errors.

mod wire;

use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flywheel_gateway::chat::{AboutCall, Answered};
use flywheel_gateway::error::{Failure, GatewayError};
use flywheel_gateway::limiter::{Overloaded, Share};
use flywheel_gateway::request::{ChatBody, Target, json_problem};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{self, RawRequest, Unread};
use crate::openapi::{Answer, Operation};
use crate::problem::Problem;

pub(crate) use self::wire::OpenAiProblem;
use self::wire::{
    ChatCompletion, ChatRequest, EmbeddingsRequest, ListedModel, ListedModels, OpenAiError,
};

/// An answer that is a chat completion, whole or as a stream.
pub struct ChatAnswer(Response);

/// An answer that is the provider's own.
pub struct EmbeddingsAnswer(Response);

/// `POST /v1/chat/completions`
pub async fn create_chat_completion(
    State(context): State<Context>,
    caller: Caller,
    RawRequest(request, _): RawRequest<ChatRequest>,
) -> ChatAnswer {
    ChatAnswer(answer_chat(&context, &caller, request).await)
}

async fn answer_chat(context: &Context, caller: &Caller, request: Request) -> Response {
    let (bytes, share) = match read_body(context, request).await {
        Ok(read) => read,
        Err(response) => return *response,
    };
    let body = match ChatBody::parse(&bytes) {
        Ok(body) => body,
        Err(invalid) => return fail(&Failure::from(invalid).unrecorded()),
    };
    drop(bytes);
    let covered = match &body.target {
        Target::App { app, .. } => caller.must_cover(app),
        Target::Model(_) => caller.must_cover_all(),
    };
    if let Err(problem) = covered {
        return refuse(&problem);
    }
    match context.gateway.chat_in(body, share).await {
        Ok(Answered::Complete {
            about,
            recorded,
            completion,
        }) => {
            let mut response = Json(completion).into_response();
            describe(response.headers_mut(), &about);
            let recorded = HeaderValue::from_static(if recorded { "true" } else { "false" });
            response.headers_mut().insert("flywheel-recorded", recorded);
            response
        }
        Ok(Answered::Stream { about, lines }) => {
            let lines = stream::unfold(lines, |mut lines| async {
                let line = lines.recv().await?;
                Some((Ok::<Bytes, Infallible>(line), lines))
            });
            let mut response = Response::new(Body::from_stream(lines));
            let headers = response.headers_mut();
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/event-stream"),
            );
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            describe(headers, &about);
            response
        }
        Err(error) => fail(&error),
    }
}

/// Reads a body as far as there is room for it among the requests under way.
async fn read_body(context: &Context, request: Request) -> Result<(Bytes, Share), Box<Response>> {
    let mut share = Share::default();
    let room = &context.gateway.room;
    let read = extract::read_body(context, request, |bytes| room.add(&mut share, bytes));
    match read.await {
        Ok(bytes) => Ok((bytes, share)),
        Err(Unread::Refused(Overloaded)) => Err(Box::new(fail(&Failure::NoRoom.unrecorded()))),
        Err(Unread::Problem(problem)) => Err(Box::new(refuse(&problem))),
    }
}

impl IntoResponse for ChatAnswer {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answer for ChatAnswer {
    fn describe(operation: &mut Operation<'_>) {
        let completion = operation.received::<ChatCompletion>();
        let stream =
            json!({"type": "string", "description": "OpenAI's chunks as server-sent events."});
        operation.answer(
            StatusCode::OK,
            &[
                ("application/json", completion),
                ("text/event-stream", stream),
            ],
        );
        operation.headers(
            StatusCode::OK,
            &[
                ("x-request-id", "The call's id."),
                ("flywheel-manifest", "The manifest that was served."),
                ("flywheel-arm", "The arm of the experiment."),
                (
                    "flywheel-recorded",
                    "Whether the call was stored; not in streams.",
                ),
            ],
        );
    }
}

fn describe(headers: &mut HeaderMap, about: &AboutCall) {
    let mut put = |name: &'static str, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    };
    put("x-request-id", Some(&about.call_id));
    put("flywheel-manifest", about.manifest.as_deref());
    put("flywheel-arm", about.arm.as_deref());
}

/// `POST /v1/embeddings`
pub async fn create_embeddings(
    State(context): State<Context>,
    caller: Caller,
    RawRequest(request, _): RawRequest<EmbeddingsRequest>,
) -> EmbeddingsAnswer {
    EmbeddingsAnswer(answer_embeddings(&context, &caller, request).await)
}

async fn answer_embeddings(context: &Context, caller: &Caller, request: Request) -> Response {
    if let Err(problem) = caller.must_cover_all() {
        return refuse(&problem);
    }
    let (bytes, _share) = match read_body(context, request).await {
        Ok(read) => read,
        Err(response) => return *response,
    };
    let body: Map<String, Value> = match serde_json::from_slice(&bytes) {
        Ok(body) => body,
        Err(error) => {
            let problem = json_problem(&bytes, &error);
            return refuse(&Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                problem,
            ));
        }
    };
    match context.gateway.embeddings(body).await {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(error) => fail(&error),
    }
}

impl IntoResponse for EmbeddingsAnswer {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answer for EmbeddingsAnswer {
    fn describe(operation: &mut Operation<'_>) {
        let answer = json!({"type": "object", "description": "As the provider sent it."});
        operation.answer(StatusCode::OK, &[("application/json", answer)]);
    }
}

/// `GET /v1/models`
pub async fn list_callable_models(
    State(context): State<Context>,
    caller: Caller,
) -> Json<ListedModels> {
    let names = context.table.load().callable_names();
    let visible = names.into_iter().filter(|name| match Target::parse(name) {
        Ok(Target::App { app, .. }) => caller.must_cover(&app).is_ok(),
        _ => caller.must_cover_all().is_ok(),
    });
    Json(ListedModels {
        object: "list",
        data: visible.map(|name| ListedModel::new(&name)).collect(),
    })
}

/// A failure of the gateway in OpenAI's form.
fn fail(error: &GatewayError) -> Response {
    let failure = &error.failure;
    let kind = failure.culprit().error_type();
    let mut response = respond(
        failure.status(),
        &failure.to_string(),
        kind,
        failure.code(),
        failure.param(),
    );
    let headers = response.headers_mut();
    let should_retry = if failure.should_retry() {
        "true"
    } else {
        "false"
    };
    headers.insert("x-should-retry", HeaderValue::from_static(should_retry));
    if let Some(wait) = failure.retry_after() {
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        if let Ok(value) = HeaderValue::from_str(&format!("{seconds:.0}")) {
            headers.insert(header::RETRY_AFTER, value);
        }
    }
    if let Some(id) = error
        .call_id
        .as_deref()
        .and_then(|id| HeaderValue::from_str(id).ok())
    {
        headers.insert("x-request-id", id);
    }
    response
}

/// A refusal of the server in OpenAI's form.
pub(crate) fn refuse(problem: &Problem) -> Response {
    let (kind, code) = match problem.status() {
        StatusCode::UNAUTHORIZED => ("authentication_error", "invalid_api_key"),
        StatusCode::FORBIDDEN => ("permission_error", "permission_denied"),
        StatusCode::TOO_MANY_REQUESTS => ("rate_limit_error", "rate_limit_exceeded"),
        StatusCode::PAYLOAD_TOO_LARGE => ("invalid_request_error", "body_too_large"),
        _ => ("invalid_request_error", "invalid_request"),
    };
    let mut response = respond(problem.status(), problem.detail(), kind, code, None);
    if problem.status() == StatusCode::TOO_MANY_REQUESTS {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn respond(
    status: StatusCode,
    message: &str,
    kind: &str,
    code: &str,
    param: Option<&str>,
) -> Response {
    let error = OpenAiError {
        message: message.to_owned(),
        kind: kind.to_owned(),
        code: code.to_owned(),
        param: param.map(str::to_owned),
    };
    (status, Json(OpenAiProblem { error })).into_response()
}

/// A failure of the gateway as a problem document, for our own API.
pub(crate) fn problem_of(failure: &Failure) -> Problem {
    let code = match failure {
        Failure::Render(_) => "invalid_variables",
        Failure::NotFound(_) => "not_found",
        Failure::Unservable(_) => "unservable_manifest",
        _ => "invalid",
    };
    Problem::new(failure.status(), code, failure.to_string())
}
