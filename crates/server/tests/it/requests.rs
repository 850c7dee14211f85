//! Users of the application harness and the requests they send.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request};
use serde_json::Value;
use tower::ServiceExt;

use crate::answer::Answer;
use crate::app::TestApp;
use crate::contract;

/// Somebody who sends requests, with a key or without.
#[derive(Clone)]
pub(crate) struct User<'a> {
    app: &'a TestApp,
    secret: Option<String>,
}

impl<'a> User<'a> {
    pub(crate) fn new(app: &'a TestApp, secret: Option<String>) -> Self {
        Self { app, secret }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "", &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string(), &[]).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, body.to_string(), &[]).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, body.to_string(), &[]).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "", &[]).await
    }

    /// Begins a body and never goes on with it.
    pub(crate) async fn stall(&self, path: &str) -> Answer {
        let begun = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{"))]);
        let mut request = Request::post(path);
        if let Some(secret) = &self.secret {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        let request = request.body(Body::from_stream(begun.chain(stream::pending())));
        let answering = self.app.router.clone().oneshot(request.unwrap());
        Answer::read(format!("POST {path}"), answering.await.unwrap()).await
    }

    /// Sends any body, with further headers. What comes back must be what the OpenAPI document says.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let label = format!("{method} {path}");
        let mut request = Request::builder().method(&method).uri(path);
        if let Some(secret) = &self.secret {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.into();
        let request = request.body(Body::from(body.clone())).unwrap();
        let response = self.app.router.clone().oneshot(request).await.unwrap();
        let answer = Answer::read(label, response).await;
        if let Err(problem) = contract::check(&method, path, &body, &answer) {
            panic!("{}: {problem}: {}", answer.request, answer.text());
        }
        answer
    }
}
