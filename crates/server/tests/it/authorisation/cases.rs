//! One sample request for each route, with who may send it.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::content;

/// What a request wants to do. Written down here a second time, so that a slip in the router's table shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Needs {
    Nothing,
    Read,
    Call,
    Change,
    Administer,
}

/// What the request's app, if it has one, means for keys that are limited to some apps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scope {
    /// It names app `support`: keys limited to another app are refused.
    App,
    /// It concerns every app: keys that are limited at all are refused.
    All,
    /// It is about something of app `support` that others must not even learn of: they get a 404.
    Hidden,
    /// An exception: it lists what the key covers, so others get a list without `support`.
    Filtered,
    /// An exception: any key of the role may ask.
    Shared,
}

const PROMPTS_ARE_SHARED: &str = "prompts are shared by all apps";
const NAMES_NO_APP: &str = "a manifest names no app";
const OPEN: &str = "probes have no key";
const FILTERED: &str = "lists only what the key covers";

/// Routes that refuse no limited key, each with the reason.
pub(crate) const EXCEPTIONS: [(&str, &str); 18] = [
    ("GET /api/v1/prompts", PROMPTS_ARE_SHARED),
    ("GET /api/v1/prompts/{prompt}/versions", PROMPTS_ARE_SHARED),
    (
        "GET /api/v1/prompts/{prompt}/versions/{version}",
        PROMPTS_ARE_SHARED,
    ),
    ("GET /api/v1/prompts/{prompt}/diff", PROMPTS_ARE_SHARED),
    ("GET /api/v1/prompts/{prompt}/uses", PROMPTS_ARE_SHARED),
    ("GET /api/v1/models", "models are shared by all apps"),
    ("GET /api/v1/indexes", "indexes are shared by all apps"),
    ("GET /api/v1/manifests/{manifest}", NAMES_NO_APP),
    ("GET /api/v1/manifest-diff", NAMES_NO_APP),
    ("GET /metrics", "aggregates for operators"),
    ("GET /healthz", OPEN),
    ("GET /readyz", OPEN),
    ("GET /openapi.json", "tools fetch it before they have a key"),
    ("GET /v1/models", FILTERED),
    ("GET /api/v1/apps", FILTERED),
    ("GET /api/v1/calls", FILTERED),
    ("GET /api/v1/feedback", FILTERED),
    ("GET /api/v1/experiments", FILTERED),
];

/// A sample request.
pub(crate) struct Case {
    pub(crate) route: &'static str,
    pub(crate) needs: Needs,
    pub(crate) scope: Scope,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// What the sample requests refer to.
pub(crate) struct World {
    pub(crate) app: TestApp,
    manifests: [String; 2],
    call: String,
    key: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        let app = TestApp::furnished().await;
        let manifests = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
        let call = app.chat("u1").await["id"].as_str().unwrap().to_owned();
        let feedback = json!({"call_id": call, "kind": "thumbs", "value": true});
        app.admin().post("/api/v1/feedback", &feedback).await.ok();
        let spare = json!({"name": "spare", "role": "viewer"});
        let key = app.admin().post("/api/v1/keys", &spare).await.ok();
        let key = key["id"].as_str().unwrap().to_owned();
        let world = Self {
            app,
            manifests,
            call,
            key,
        };
        for name in ["exp", "counted"] {
            let experiment = world.experiment(name);
            let admin = world.app.admin();
            admin.post("/api/v1/experiments", &experiment).await.ok();
        }
        world
    }

    fn experiment(&self, name: &str) -> Value {
        let [first, second] = &self.manifests;
        let arms = json!([
            {"name": "a", "manifest": first, "weight": 5000},
            {"name": "b", "manifest": second, "weight": 5000},
        ]);
        json!({"name": name, "app": "support", "arms": arms})
    }

    fn get(&self, route: &'static str, needs: Needs, scope: Scope) -> Case {
        self.case(route, needs, scope, Value::Null)
    }

    /// A case for a route given as `METHOD path`, its parameters filled in.
    fn case(&self, route: &'static str, needs: Needs, scope: Scope, body: Value) -> Case {
        let (_, path) = route.split_once(' ').unwrap();
        let [first, second] = &self.manifests;
        let query = match path {
            "/api/v1/prompts/{prompt}/diff" => "?from=1&to=2".to_owned(),
            "/api/v1/manifest-diff" => format!("?from={first}&to={second}"),
            "/api/v1/feedback/summary" => "?by=manifest&app=support".to_owned(),
            _ => String::new(),
        };
        let mut path = path.to_owned();
        for (parameter, value) in [
            ("{app}", "support"),
            ("{prompt}", "greeting"),
            ("{version}", "1"),
            ("{label}", "best"),
            ("{model}", "m"),
            ("{alias}", "best"),
            ("{manifest}", first),
            ("{experiment}", "exp"),
            ("{call}", &self.call),
            ("{key}", &self.key),
        ] {
            path = path.replace(parameter, value);
        }
        Case {
            route,
            needs,
            scope,
            path: path + &query,
            body,
        }
    }

    pub(crate) fn cases(&self) -> Vec<Case> {
        let mut cases = self.registry_cases();
        cases.extend(self.app_cases());
        cases.extend(self.event_cases());
        cases.extend(self.operation_cases());
        cases
    }

    fn registry_cases(&self) -> Vec<Case> {
        use Needs::{Change, Read};
        use Scope::{All, Shared};
        let change = |route, body| self.case(route, Change, All, body);
        let read = |route| self.get(route, Read, Shared);
        let score = json!({"metric": "exact", "value": 0.5, "n": 10});
        let label = "PUT /api/v1/prompts/{prompt}/labels/{label}";
        let model = "PUT /api/v1/models/{model}/versions/{version}";
        let alias = "PUT /api/v1/models/{model}/aliases/{alias}";
        vec![
            change("POST /api/v1/push", json!({})),
            read("GET /api/v1/prompts"),
            read("GET /api/v1/prompts/{prompt}/versions"),
            change(
                "POST /api/v1/prompts/{prompt}/versions",
                json!({"content": content("Hi {name}")}),
            ),
            read("GET /api/v1/prompts/{prompt}/versions/{version}"),
            change(
                "POST /api/v1/prompts/{prompt}/versions/{version}/scores",
                score,
            ),
            read("GET /api/v1/prompts/{prompt}/diff"),
            read("GET /api/v1/prompts/{prompt}/uses"),
            change(label, json!({"version": "1"})),
            change(
                "DELETE /api/v1/prompts/{prompt}/labels/{label}",
                Value::Null,
            ),
            read("GET /api/v1/models"),
            change(model, json!({"provider": "simulated"})),
            change(alias, json!({"model_version": "1"})),
            read("GET /api/v1/indexes"),
            change(
                "PUT /api/v1/indexes/{version}",
                json!({"index": "kb", "state": "available"}),
            ),
            read("GET /api/v1/manifests/{manifest}"),
            read("GET /api/v1/manifest-diff"),
        ]
    }

    fn app_cases(&self) -> Vec<Case> {
        use Needs::{Call, Change, Read};
        use Scope::{App, Filtered};
        let change = |route, body| self.case(route, Change, App, body);
        let deploy = json!({"prompt": "greeting", "version": "3", "reason": "x"});
        let variables = json!({"variables": {"name": "Ada"}});
        vec![
            self.get("GET /api/v1/apps", Read, Filtered),
            self.get("GET /api/v1/apps/{app}", Read, App),
            change("PUT /api/v1/apps/{app}", json!({"description": "d"})),
            change("POST /api/v1/apps/{app}/deploy", deploy),
            change("POST /api/v1/apps/{app}/rollback", json!({"dry_run": true})),
            change("POST /api/v1/apps/{app}/rehearse", json!({})),
            self.case("POST /api/v1/apps/{app}/resolve", Call, App, variables),
            self.get("GET /api/v1/apps/{app}/deployments", Read, App),
            self.get("GET /api/v1/apps/{app}/metrics", Read, App),
            self.get("GET /api/v1/experiments", Read, Filtered),
            change("POST /api/v1/experiments", self.experiment("another")),
            self.get("GET /api/v1/experiments/{experiment}", Read, App),
            change(
                "PATCH /api/v1/experiments/{experiment}",
                json!({"exposure": 5000}),
            ),
            self.get("GET /api/v1/experiments/{experiment}/readout", Read, App),
            self.get("GET /api/v1/experiments/{experiment}/units", Read, App),
            self.get("GET /api/v1/experiments/{experiment}/sums", Read, App),
            self.get("GET /api/v1/experiments/{experiment}/histograms", Read, App),
            change("POST /api/v1/experiments/{experiment}/start", Value::Null),
            change(
                "POST /api/v1/experiments/{experiment}/promote",
                json!({"arm": "b", "reason": "tried", "dry_run": true, "force": true}),
            ),
            // What is being made again cannot be archived below.
            Case {
                path: "/api/v1/experiments/counted/rebuild".to_owned(),
                ..change("POST /api/v1/experiments/{experiment}/rebuild", Value::Null)
            },
            change("POST /api/v1/experiments/{experiment}/stop", Value::Null),
            change("POST /api/v1/experiments/{experiment}/archive", Value::Null),
        ]
    }

    fn event_cases(&self) -> Vec<Case> {
        use Needs::{Call, Read};
        use Scope::{All, App, Filtered, Hidden};
        let chat = json!({"model": "flywheel/support", "flywheel": {"variables": {"name": "Ada"}}});
        let feedback = json!({"call_id": self.call, "kind": "thumbs", "value": true});
        let embeddings = json!({"model": "m", "input": "x"});
        vec![
            self.case("POST /v1/chat/completions", Call, App, chat),
            self.case("POST /v1/embeddings", Call, All, embeddings),
            self.get("GET /v1/models", Call, Filtered),
            self.get("GET /api/v1/calls", Read, Filtered),
            self.case("POST /api/v1/calls", Call, App, json!({"app": "support"})),
            self.get("GET /api/v1/calls/{call}", Read, Hidden),
            self.get("GET /api/v1/feedback", Read, Filtered),
            self.case("POST /api/v1/feedback", Call, App, feedback),
            self.get("GET /api/v1/feedback/summary", Read, App),
        ]
    }

    fn operation_cases(&self) -> Vec<Case> {
        use Needs::{Administer, Nothing, Read};
        use Scope::{All, Shared};
        let key = json!({"name": "k", "role": "viewer"});
        vec![
            self.get("GET /api/v1/keys", Administer, All),
            self.case("POST /api/v1/keys", Administer, All, key),
            self.case("DELETE /api/v1/keys/{key}", Administer, All, Value::Null),
            self.get("GET /api/v1/audit", Read, All),
            self.get("GET /api/v1/audit/verify", Read, All),
            self.get("GET /metrics", Read, Shared),
            self.get("GET /healthz", Nothing, Shared),
            self.get("GET /readyz", Nothing, Shared),
            self.get("GET /openapi.json", Nothing, Shared),
        ]
    }
}
