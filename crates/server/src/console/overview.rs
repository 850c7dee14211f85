//! The overview: what needs a person now, and how every app has been doing.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use flywheel_core::AppName;
use flywheel_core::deployment::{App, Deployment};
use flywheel_core::key::Permission;
use flywheel_core::name::EnvironmentName;
use flywheel_storage::StateSession;
use flywheel_storage::events::{ActivityRow, SummaryFilter, SummaryKey, Window};
use jiff::{SignedDuration, Timestamp, Unit};
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::chart::{Amount, Chart, Mark, Numbers, Point};
use super::form::PageQuery;
use super::scores::{self, Score};
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::context::Context;
use crate::operations::deploy::whole_history;
use crate::operations::served;
use crate::operations::summary::{Reading, ReadingKind, Summary};
use crate::problem::ApiResult;

/// A share of failed calls from which on somebody should look.
const MANY_FAILURES: f64 = 0.05;

/// Fewer calls than this in an hour say nothing about a share.
const FEWEST_CALLS: u64 = 20;

/// How far back a page looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Span {
    #[serde(rename = "24h")]
    Day,
    #[default]
    #[serde(rename = "7d")]
    Week,
    #[serde(rename = "30d")]
    Month,
}

impl Span {
    pub(super) const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    /// The window that ends with the slot under way.
    pub(super) fn window(self, now: Timestamp) -> Window {
        let (slot_seconds, slots) = match self {
            Self::Day => (3600, 24),
            Self::Week => (4 * 3600, 42),
            Self::Month => (86_400, 30),
        };
        let slot = i64::from(slot_seconds);
        let end = (now.as_second().div_euclid(slot) + 1) * slot;
        let since = Timestamp::from_second(end - slot * i64::from(slots)).unwrap_or(now);
        Window {
            since,
            slot_seconds,
            slots,
        }
    }

    /// Feedback is sparser than calls: a day at a time, but for a single day.
    pub(super) fn feedback_key(self) -> SummaryKey {
        match self {
            Self::Day => SummaryKey::Hour,
            _ => SummaryKey::Day,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OverviewQuery {
    span: Span,
}

/// Something that a person should look at now.
pub(super) struct Concern {
    pub(super) text: String,
    pub(super) links: Vec<(String, &'static str)>,
}

struct AppCard {
    name: String,
    description: String,
    environment: String,
    serving: Option<Serving>,
    figures: Figures,
}

/// What an environment serves.
pub(super) struct Serving {
    pub(super) prompt: String,
    pub(super) ordinal: Option<u64>,
    pub(super) model: String,
    pub(super) manifest: String,
    pub(super) since: Markup,
    pub(super) actor: String,
    pub(super) reason: String,
}

/// How an app has been doing, as charts and as the numbers behind them.
pub(super) struct Figures {
    pub(super) calls: String,
    pub(super) failures: String,
    pub(super) latency: String,
    pub(super) cost: String,
    pub(super) score: Option<Score>,
    pub(super) charts: Vec<Markup>,
    pub(super) numbers: Vec<Numbers>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    span: Span,
    concerns: Vec<Concern>,
    apps: Vec<AppCard>,
}

/// `GET /`
pub(super) async fn show_overview(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<OverviewQuery>,
) -> PageResult {
    let now = context.sources.clock.now();
    let may_change = visitor.may(Permission::Change);
    let mut concerns = broken_providers(&context);
    let mut apps = Vec::new();
    for (app, environment, history, serving) in seen_apps(&context, &visitor, now).await? {
        let sight = Sight::take(&context, &app.name, &environment, query.span, now).await?;
        concerns.extend(
            concerns_of(
                &context,
                &app,
                &environment,
                &history,
                &sight,
                may_change,
                now,
            )
            .await?,
        );
        apps.push(AppCard {
            name: app.name.to_string(),
            description: app.settings.description.clone(),
            environment: environment.to_string(),
            serving,
            figures: sight.figures(&history),
        });
    }
    page(&OverviewPage {
        frame: Frame::new(&context, &visitor, "Overview", "/"),
        span: query.span,
        concerns,
        apps,
    })
}

/// What the state says of the apps that a visitor may see. It is read before anything is summed up, which may take longer
/// than a session should be held: deployments read through such sessions too.
async fn seen_apps(
    context: &Context,
    visitor: &Visitor,
    now: Timestamp,
) -> ApiResult<Vec<(App, EnvironmentName, Vec<Deployment>, Option<Serving>)>> {
    let mut session = context.state.read().await?;
    let mut apps = Vec::new();
    let known = session.deployments().list_apps().await?;
    for app in known {
        if visitor.caller.must_cover(&app.name).is_err() {
            continue;
        }
        let Some(environment) = app.settings.default_environment().cloned() else {
            continue;
        };
        let history = whole_history(&mut *session, &app.name, &environment).await?;
        let serving = match history.first() {
            Some(current) => describe_serving(&mut *session, current, now).await?,
            None => None,
        };
        apps.push((app, environment, history, serving));
    }
    Ok(apps)
}

fn broken_providers(context: &Context) -> Vec<Concern> {
    let problems = context.options.provider_problems.values();
    problems
        .map(|problem| Concern {
            text: format!("A provider cannot be used: {problem}"),
            links: vec![("/models".to_owned(), "Models")],
        })
        .collect()
}

/// What a deployment serves, in words.
pub(super) async fn describe_serving(
    session: &mut dyn StateSession,
    deployment: &Deployment,
    now: Timestamp,
) -> ApiResult<Option<Serving>> {
    let served = served::find(session, &deployment.manifest).await?;
    Ok(served.map(|served| Serving {
        prompt: served.prompt.to_string(),
        ordinal: served.prompt_ordinal,
        model: served.model,
        manifest: deployment.manifest.to_string(),
        since: show::when(deployment.created_at, now),
        actor: deployment.actor.clone(),
        reason: deployment.reason.clone(),
    }))
}

/// What was seen of an app in a window.
pub(super) struct Sight {
    span: Span,
    window: Window,
    slots: Vec<ActivityRow>,
    total: ActivityRow,
    feedback: Vec<Summary>,
}

impl Sight {
    pub(super) async fn take(
        context: &Context,
        app: &AppName,
        environment: &EnvironmentName,
        span: Span,
        now: Timestamp,
    ) -> ApiResult<Self> {
        let window = span.window(now);
        let apps = [app.clone()];
        let events = &context.events;
        let rows = events.activity(&apps, Some(environment), window).await?;
        let mut slots = vec![ActivityRow::default(); window.slots as usize];
        let mut total = ActivityRow::default();
        for row in rows {
            total.add(&row);
            if let Some(slot) = slots.get_mut(row.slot as usize) {
                *slot = row;
            }
        }
        let filter = SummaryFilter {
            apps: apps.to_vec(),
            environment: Some(environment.clone()),
            since: Some(window.since),
            ..SummaryFilter::default()
        };
        let feedback = scores::by(context, &filter, span.feedback_key()).await?;
        Ok(Self {
            span,
            window,
            slots,
            total,
            feedback,
        })
    }

    /// The charts, with marks where a deployment changed what was served.
    pub(super) fn figures(&self, history: &[Deployment]) -> Figures {
        let marks = marks(history, self.window);
        let of_slots = |read: fn(&ActivityRow) -> Option<f64>| {
            self.slots
                .iter()
                .map(|slot| read(slot).map(Point::plain))
                .collect::<Vec<_>>()
        };
        let chart = |title, amount, points, as_bars| Chart {
            title,
            amount,
            window: self.window,
            points,
            marks: &marks,
            ends: None,
            as_bars,
        };
        let charts = [
            chart(
                "Calls",
                Amount::Count,
                of_slots(|slot| Some(slot.calls as f64)),
                true,
            ),
            chart(
                "Failed calls",
                Amount::Percent,
                of_slots(failed_share),
                true,
            ),
            chart(
                "Latency p95",
                Amount::Microseconds,
                of_slots(|slot| slot.latency_quantile(0.95).map(|latency| latency as f64)),
                false,
            ),
            chart(
                "Cost",
                Amount::NanoDollars,
                of_slots(|slot| (slot.calls > 0).then_some(slot.cost_nano_usd as f64)),
                true,
            ),
        ];
        let mut drawn: Vec<_> = charts.iter().map(Chart::draw).collect();
        let mut numbers = vec![Numbers::of(&charts)];
        let mut feedback_marks = Vec::new();
        if let Some(feedback) = self.feedback_chart(history, &mut feedback_marks) {
            drawn.insert(2, feedback.draw());
            numbers.push(Numbers::of(&[feedback]));
        }
        let mut headlines = self.feedback.iter().filter_map(scores::headline);
        let dash = || "–".to_owned();
        Figures {
            calls: show::count(self.total.calls),
            failures: failed_share(&self.total).map_or_else(dash, show::percent),
            latency: self
                .total
                .latency_quantile(0.95)
                .map_or_else(dash, show::latency),
            cost: show::dollars(self.total.cost_nano_usd),
            score: headlines.next_back().map(Score::new),
            charts: drawn,
            numbers,
        }
    }

    fn feedback_chart<'a>(
        &self,
        history: &[Deployment],
        marks: &'a mut Vec<Mark>,
    ) -> Option<Chart<'a>> {
        let most = self
            .feedback
            .iter()
            .filter_map(scores::headline)
            .max_by_key(|reading| reading.n)?;
        let (slot_seconds, slots) = match self.span {
            Span::Day => (3600, 24),
            Span::Week => (86_400, 7),
            Span::Month => (86_400, 30),
        };
        let mut points = vec![None; slots];
        let begin = match self.span {
            Span::Day => self.window.since,
            // The days of the window, the one under way included.
            _ => {
                let end = self.window.until() - SignedDuration::from_secs(1);
                let day = end.round(
                    jiff::TimestampRound::new()
                        .smallest(Unit::Hour)
                        .mode(jiff::RoundMode::Floor),
                );
                let day = day.unwrap_or(end).as_second().div_euclid(86_400) + 1;
                Timestamp::from_second((day - slots as i64) * 86_400).ok()?
            }
        };
        for summary in &self.feedback {
            let hour = if summary.key.len() == 10 {
                format!("{}T00:00:00Z", summary.key)
            } else {
                format!("{}:00:00Z", summary.key)
            };
            let Ok(at) = hour.parse::<Timestamp>() else {
                continue;
            };
            let slot = (at.as_second() - begin.as_second()).div_euclid(i64::from(slot_seconds));
            let reading = summary
                .series
                .iter()
                .find(|reading| reading.series == most.series);
            let (Ok(slot), Some(reading)) = (usize::try_from(slot), reading) else {
                continue;
            };
            if let (Some(place), Some(value)) = (points.get_mut(slot), reading.value) {
                *place = Some(Point {
                    value,
                    interval: reading.low.zip(reading.high),
                });
            }
        }
        let (title, amount, ends) = match (most.kind, most.scale) {
            (ReadingKind::Rate, _) => ("Thumbs up", Amount::Percent, (0.0, 1.0)),
            (_, Some(scale)) => ("Rating", Amount::Score, (scale.min, scale.max)),
            _ => return None,
        };
        let window = Window {
            since: begin,
            slot_seconds,
            slots: slots as u32,
        };
        *marks = self::marks(history, window);
        Some(Chart {
            title,
            amount,
            window,
            points,
            marks,
            ends: Some(ends),
            as_bars: false,
        })
    }
}

/// Where in a window deployments changed what was served.
fn marks(history: &[Deployment], window: Window) -> Vec<Mark> {
    let since = window.since.as_second() as f64;
    let length = f64::from(window.slot_seconds) * f64::from(window.slots);
    history
        .iter()
        .map(|deployment| Mark {
            place: (deployment.created_at.as_second() as f64 - since) / length,
            text: format!(
                "#{} {} by {}: {}",
                deployment.number,
                deployment.kind.as_str(),
                deployment.actor,
                deployment.reason
            ),
        })
        .filter(|mark| (0.0..=1.0).contains(&mark.place))
        .collect()
}

fn failed_share(slot: &ActivityRow) -> Option<f64> {
    let failed = slot.hard_failures + slot.invalid_outputs;
    (slot.calls > 0).then(|| failed as f64 / slot.calls as f64)
}

/// What is wrong with an app right now.
pub(super) async fn concerns_of(
    context: &Context,
    app: &App,
    environment: &EnvironmentName,
    history: &[Deployment],
    sight: &Sight,
    may_change: bool,
    now: Timestamp,
) -> ApiResult<Vec<Concern>> {
    let mut concerns = Vec::new();
    let name = encoded(app.name.as_str());
    let place = format!("environment={}", encoded(environment.as_str()));
    let page = (format!("/apps/{name}?{place}"), "Look at the app");
    let way_back = (format!("/apps/{name}/rollback?{place}"), "Roll back…");
    let links = |first: Vec<(String, &'static str)>| {
        let mut links = first;
        if may_change && history.len() > 1 {
            links.push(way_back.clone());
        }
        links
    };
    if let Some(problem) = unservable(context, &app.name, environment) {
        concerns.push(Concern {
            text: format!("{} cannot serve what is deployed: {problem}", app.name),
            links: links(vec![page.clone()]),
        });
    }
    if let Some(text) = rated_lower(context, &app.name, environment, history, sight).await? {
        let said = (
            format!("/feedback?app={name}&kind=comment"),
            "What they say",
        );
        concerns.push(Concern {
            text: format!("{}: {text}", app.name),
            links: links(vec![page, said]),
        });
    }
    let hour = Window {
        since: now - SignedDuration::from_hours(1),
        slot_seconds: 3600,
        slots: 1,
    };
    let apps = [app.name.clone()];
    let events = &context.events;
    for row in events.activity(&apps, Some(environment), hour).await? {
        let share = row.hard_failures as f64 / row.calls.max(1) as f64;
        if row.calls >= FEWEST_CALLS && share >= MANY_FAILURES {
            let calls = format!("/calls?app={name}&{place}&status=provider_error");
            concerns.push(Concern {
                text: format!(
                    "{}: {} of {} calls failed in the last hour ({})",
                    app.name,
                    show::count(row.hard_failures),
                    show::count(row.calls),
                    show::percent(share)
                ),
                links: links(vec![(calls, "Look at the calls")]),
            });
        }
    }
    Ok(concerns)
}

fn unservable(context: &Context, app: &AppName, environment: &EnvironmentName) -> Option<String> {
    let table = context.table.load();
    let routes = table.app(app)?.environments.get(environment)?;
    let unservable = routes.deployed.as_ref()?.as_ref().err()?;
    Some(unservable.problem.clone())
}

/// Whether people rate what is deployed lower than what was before it. It is said only when the intervals of the two do
/// not even touch, because this is looked at all the time and a difference that is just significant would often be none.
async fn rated_lower(
    context: &Context,
    app: &AppName,
    environment: &EnvironmentName,
    history: &[Deployment],
    sight: &Sight,
) -> ApiResult<Option<String>> {
    let (Some(current), Some(previous)) = (
        history.first(),
        history
            .first()
            .and_then(|current| current.previous_manifest),
    ) else {
        return Ok(None);
    };
    let filter = SummaryFilter {
        apps: vec![app.clone()],
        environment: Some(environment.clone()),
        since: Some(sight.window.since),
        ..SummaryFilter::default()
    };
    let summaries = scores::by(context, &filter, SummaryKey::Manifest).await?;
    let of = |manifest: String| {
        let summary = summaries.iter().find(|summary| summary.key == manifest)?;
        scores::headline(summary)
    };
    let (Some(new), Some(old)) = (of(current.manifest.to_string()), of(previous.to_string()))
    else {
        return Ok(None);
    };
    let is_lower = new.series == old.series
        && matches!((new.high, old.low), (Some(high), Some(low)) if high < low);
    if !is_lower {
        return Ok(None);
    }
    let mut session = context.state.read().await?;
    let mut label = async |manifest| -> ApiResult<String> {
        let served = served::find(&mut *session, manifest).await?;
        Ok(served.map_or_else(|| manifest.short().to_string(), |served| served.label()))
    };
    Ok(Some(format!(
        "{}, deployed by {} (#{}), is rated lower than {}, which was before it: {} against {}",
        label(&current.manifest).await?,
        current.actor,
        current.number,
        label(&previous).await?,
        in_words(new),
        in_words(old)
    )))
}

fn in_words(reading: &Reading) -> String {
    let Score {
        name,
        value,
        interval,
        n,
        ..
    } = Score::new(reading);
    format!("{name} {value} ({interval}, n = {n})")
}

/// Rows by their key, for tables that look several up.
pub(super) fn by_key(summaries: &[Summary]) -> BTreeMap<&str, &Summary> {
    summaries
        .iter()
        .map(|summary| (summary.key.as_str(), summary))
        .collect()
}
