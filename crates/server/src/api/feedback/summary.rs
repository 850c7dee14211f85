//! Feedback summed up by a key, or by week and prompt version.

use axum::Json;
use axum::extract::State;
use flywheel_core::AppName;
use flywheel_core::name::{EnvironmentName, ExperimentName};
use flywheel_core::schema::DateTime;
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::calls::covered_apps;
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::QueryParams;
use crate::operations::summary::weekly::{WeeklyQuery, weekly};
use crate::operations::summary::{Summary, name_versions, summarize};
use crate::problem::{ApiResult, Problem};

/// What is summed up, and by what.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SummaryQuery {
    /// What the rows are.
    #[serde(default = "by_version")]
    by: SummaryKey,
    /// Needed for weeks, whose rows have the app's metrics.
    app: Option<AppName>,
    environment: Option<EnvironmentName>,
    experiment: Option<ExperimentName>,
    /// Calls that began not before this time; of weeks, from the one of this time on.
    #[schemars(with = "Option<DateTime>")]
    since: Option<Timestamp>,
    /// Calls that began before this time; of weeks, up to the one before this time.
    #[schemars(with = "Option<DateTime>")]
    until: Option<Timestamp>,
}

fn by_version() -> SummaryKey {
    SummaryKey::PromptVersion
}

/// Feedback summed up.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FeedbackSummary {
    /// What the rows are.
    by: SummaryKey,
    /// The rows.
    items: Vec<Summary>,
    /// Of weeks, which share of the events is taken in, while not all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_in: Option<f64>,
}

/// `GET /api/v1/feedback/summary`
pub async fn summarize_feedback(
    State(context): State<Context>,
    caller: Caller,
    QueryParams(query): QueryParams<SummaryQuery>,
) -> ApiResult<Json<FeedbackSummary>> {
    let SummaryQuery {
        by,
        app,
        environment,
        experiment,
        since,
        until,
    } = query;
    let apps = covered_apps(&caller, app.clone())?;
    if by == SummaryKey::Week {
        let Some(app) = app else {
            return Err(Problem::invalid(
                "weeks are summed up for one app, whose metrics they have",
            )
            .hint("say which with `app`"));
        };
        if experiment.is_some() {
            return Err(Problem::invalid("weeks are not summed up by experiment")
                .hint("an experiment's readout has its metrics, arm by arm"));
        }
        let asked = WeeklyQuery {
            app,
            environment,
            since,
            until,
        };
        let found = weekly(&context, asked).await?;
        return Ok(Json(FeedbackSummary {
            by,
            items: found.rows,
            taken_in: found.taken_in,
        }));
    }
    let filter = SummaryFilter {
        apps,
        environment,
        experiment,
        since,
        until,
    };
    let rows = context.events.summarize(&filter, by).await?;
    let mut items = summarize(rows);
    name_versions(&mut *context.state.read().await?, by, &mut items).await?;
    Ok(Json(FeedbackSummary {
        by,
        items,
        taken_in: None,
    }))
}
