//! Prompts, models, apps and deployments that tests begin with.

use serde_json::{Value, json};

use crate::app::{BROKEN_PROVIDER, Options, TestApp};

/// The texts of the three versions of prompt `greeting`.
pub(crate) const GREETINGS: [&str; 3] = ["Hello {name}", "Good day {name}", "Welcome {name}"];

/// A prompt's content with one message, on the model that the simulated provider serves.
pub(crate) fn content(text: &str) -> Value {
    json!({
        "template_format": "fstring",
        "messages": [{"role": "user", "content": text}],
        "model_id": "m",
        "model_version": "1",
    })
}

impl TestApp {
    /// A server on which `support` and `other` are apps, `m:1` is a model, `broken:1` is one whose provider lacks its
    /// key, and `greeting` is a prompt with the versions of [`GREETINGS`]. Nothing is deployed.
    pub(crate) async fn furnished() -> Self {
        Self::furnished_with(Options::default()).await
    }

    pub(crate) async fn furnished_with(options: Options) -> Self {
        let app = Self::with(options).await;
        let greeting = |text: &&str| json!({"prompt": "greeting", "content": content(text)});
        let push = json!({
            "models": [
                {"model_id": "m", "model_version": "1", "provider": "simulated",
                 "price": {"input": 1.0, "output": 2.0}},
                {"model_id": "broken", "model_version": "1", "provider": BROKEN_PROVIDER},
            ],
            "prompts": GREETINGS.iter().map(greeting).collect::<Vec<_>>(),
        });
        app.admin().post("/api/v1/push", &push).await.ok();
        for name in ["support", "other"] {
            app.admin()
                .put(&format!("/api/v1/apps/{name}"), &json!({}))
                .await
                .ok();
        }
        app
    }

    /// Registers a version of the retriever index `kb`, or changes its state.
    pub(crate) async fn put_index(&self, version: &str, state: &str) {
        let path = format!("/api/v1/indexes/{version}");
        let body = json!({"index": "kb", "state": state});
        self.editor().put(&path, &body).await.ok();
    }

    /// Deploys a version of `greeting` for `support` to production. Returns the manifest's id.
    pub(crate) async fn deploy_greeting(&self, ordinal: usize) -> String {
        let body = json!({"prompt": "greeting", "version": ordinal.to_string(), "reason": "test"});
        let moved = self
            .admin()
            .post("/api/v1/apps/support/deploy", &body)
            .await
            .ok();
        moved["deployment"]["manifest"].as_str().unwrap().to_owned()
    }

    /// Starts experiment `exp` of `support` between two manifests, arms `a` and `b`.
    pub(crate) async fn start_experiment(&self, environment: &str, [a, b]: &[String; 2]) {
        let experiment = json!({"name": "exp", "app": "support", "environment": environment, "arms": [
            {"name": "a", "manifest": a, "weight": 5000},
            {"name": "b", "manifest": b, "weight": 5000},
        ]});
        let path = "/api/v1/experiments";
        self.editor().post(path, &experiment).await.ok();
        let start = format!("{path}/exp/start");
        self.editor().post(&start, &Value::Null).await.ok();
    }

    /// The manifest that `support` serves in production, as the API tells it.
    pub(crate) async fn current_manifest(&self) -> Option<String> {
        let app = self.admin().get("/api/v1/apps/support").await.ok();
        let current = app["current"].as_array().unwrap();
        let production = current
            .iter()
            .find(|item| item["environment"] == "production")?;
        Some(production["manifest"].as_str().unwrap().to_owned())
    }

    /// Asks `support` in production for an answer. Returns the `chat.completion`.
    pub(crate) async fn chat(&self, user: &str) -> Value {
        let body = json!({"model": "flywheel/support", "user": user,
            "flywheel": {"variables": {"name": "Ada"}}});
        self.admin().post("/v1/chat/completions", &body).await.ok()
    }

    /// The actions in the audit log, oldest first.
    pub(crate) async fn audited_actions(&self) -> Vec<String> {
        let log = self.admin().get("/api/v1/audit?limit=1000").await.ok();
        let items = log["items"].as_array().unwrap().iter().rev();
        items
            .map(|item| item["action"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The items of a list.
pub(crate) fn items(body: &Value) -> Vec<Value> {
    body["items"].as_array().unwrap().clone()
}

/// One member of each item of a list, as text.
pub(crate) fn each(body: &Value, member: &str) -> Vec<String> {
    let text = |item: &Value| match &item[member] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    items(body).iter().map(text).collect()
}
