//! Users of the application harness and the requests they send.

use axum::body::Body;
use http::{Method, Request};
use serde_json::Value;
use tower::ServiceExt;

use crate::answer::Answer;
use crate::app::TestApp;

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
        self.send(Method::GET, path, Body::empty(), &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Body::from(body.to_string()), &[])
            .await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Body::from(body.to_string()), &[])
            .await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, Body::from(body.to_string()), &[])
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, Body::empty(), &[]).await
    }

    /// Sends any body, with further headers.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Body>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let label = format!("{method} {path}");
        let mut request = Request::builder().method(method).uri(path);
        if let Some(secret) = &self.secret {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.app.router.clone().oneshot(request).await.unwrap();
        Answer::read(label, response).await
    }
}
