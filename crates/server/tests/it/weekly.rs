//! Weeks by prompt version: every metric of an app, with intervals that know which calls are of one user.

use flywheel_core::key::Role;
use http::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, secret_of};
use crate::console::{sign_in, text, visit};
use crate::samples::items;

const WEEKS: &str = "/api/v1/feedback/summary?by=week&app=support";

/// So many users call so often from a Monday on, and all calls of one end alike.
async fn users(app: &TestApp, monday: &str, manifest: &str, users: u32, calls: u32) {
    let (mut logged, mut outcomes) = (Vec::new(), Vec::new());
    for user in 0..users {
        for call in 0..calls {
            let id = format!("{monday}-{user}-{call}");
            logged.push(json!({
                "id": id, "app": "support", "environment": "production", "manifest": manifest,
                "user": format!("u{user}"), "started_at": format!("{monday}T12:00:00Z"), "latency_ms": 100,
            }));
            outcomes.push(
                json!({"call_id": id, "app": "support", "kind": "thumbs", "value": user % 2 == 0}),
            );
            outcomes.push(json!({"call_id": id, "app": "support", "kind": "rating", "value": 5}));
        }
    }
    for (path, events) in [("/api/v1/calls", logged), ("/api/v1/feedback", outcomes)] {
        for part in events.chunks(500) {
            app.caller().post(path, &json!(part)).await.ok();
        }
    }
}

fn metric<'a>(row: &'a Value, name: &str) -> &'a Value {
    let metrics = row["metrics"].as_array().unwrap();
    metrics
        .iter()
        .find(|metric| metric["metric"] == name)
        .unwrap()
}

fn width(metric: &Value) -> f64 {
    metric["high"].as_f64().unwrap() - metric["low"].as_f64().unwrap()
}

#[tokio::test]
async fn a_week_has_every_metric_and_requests_are_no_users() {
    let app = TestApp::furnished().await;
    let (first, second) = (app.deploy_greeting(1).await, app.deploy_greeting(2).await);
    users(&app, "2025-12-22", &first, 100, 1).await;
    users(&app, "2025-12-29", &second, 10, 10).await;
    let weeks = app.viewer().get(WEEKS).await.ok();
    let rows = items(&weeks);
    let keys: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["week"].as_str().unwrap(),
                row["prompt_ordinal"].as_u64().unwrap(),
                row["calls"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(keys, [("2025-12-22", 1, 100), ("2025-12-29", 2, 100)]);
    let declared = app.viewer().get("/api/v1/apps/support/metrics").await.ok();
    for row in &rows {
        assert_eq!(
            row["metrics"].as_array().unwrap().len(),
            items(&declared).len()
        );
        assert_eq!(row["series"], json!([]), "{row}");
    }
    let (plain, alike) = (metric(&rows[0], "thumbs_up"), metric(&rows[1], "thumbs_up"));
    assert_eq!(
        (
            &plain["units"],
            &plain["n"],
            &plain["value"],
            &plain["method"]
        ),
        (&json!(100), &json!(100), &json!(0.5), &json!("Wilson"))
    );
    assert_eq!(
        (&alike["units"], &alike["n"], &alike["value"]),
        (&json!(10), &json!(100), &json!(0.5))
    );
    assert!(width(alike) > 2.5 * width(plain), "{alike} {plain}");
    let ratings = metric(&rows[0], "rating");
    assert_eq!(
        (&ratings["value"], &ratings["high"]),
        (&json!(5.0), &Value::Null)
    );
    assert_eq!(
        ratings["undefined"],
        "the values do not vary, so there is no standard error"
    );
    let unsaid = metric(&rows[0], "escalated");
    assert_eq!((&unsaid["value"], &unsaid["n"]), (&Value::Null, &json!(0)));
    assert_eq!(unsaid["undefined"], "there are no values yet");

    // The weeks of a window's ends are whole.
    let path = format!("{WEEKS}&since=2025-12-31T00:00:00Z&until=2025-12-31T01:00:00Z");
    let one = app.viewer().get(&path).await.ok();
    assert_eq!(items(&one), rows[1..]);
    let path = format!("{WEEKS}&environment=staging");
    assert!(items(&app.viewer().get(&path).await.ok()).is_empty());

    let cookie = sign_in(&app, &secret_of(Role::Viewer, None)).await;
    let see =
        async |path: &str| text(visit(&app, &Method::GET, path, Some(&cookie), "").await).await;
    let page = see("/apps/support").await;
    assert!(
        page.contains("Week by week") && page.contains("100 values of 10 users"),
        "{page}"
    );
    let csv = see("/apps/support/weeks.csv").await;
    assert!(csv.contains("2025-12-29,greeting,"), "{csv}");
    assert!(
        csv.contains(",2,100,thumbs_up,binary,,10,100,0.5,"),
        "{csv}"
    );
}

#[tokio::test]
async fn weeks_are_of_one_app_and_of_no_experiment() {
    let app = TestApp::furnished().await;
    for (query, said) in [
        ("?by=week", "weeks are summed up for one app"),
        (
            "?by=week&app=support&experiment=x",
            "not summed up by experiment",
        ),
    ] {
        app.viewer()
            .get(&format!("/api/v1/feedback/summary{query}"))
            .await
            .problem_saying(422, "invalid", said);
    }
}
