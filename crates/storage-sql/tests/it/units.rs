//! Statistics by unit say what the events say, however those came and came again, and say the same when made anew.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_core::ContentHash;
use flywheel_core::call::{Call, CallStatus};
use flywheel_core::experiment::{Arm, Epoch, Experiment, ExperimentStatus, UnitKind};
use flywheel_core::feedback::{Feedback, FeedbackBody, RatingScale};
use flywheel_core::metric::{Metric, MetricKind, MetricSource, bucket, starter_set};
use flywheel_core::model::Usage;
use flywheel_core::name::ExperimentName;
use flywheel_core::plan::{Effect, Part, Plan};
use flywheel_storage::conformance::samples::{call, feedback, name, outcome};
use flywheel_storage::events::PruneBound;
use flywheel_storage::statistics::{
    ExperimentStatistics, HistoryQuery, Rebuild, StatisticsStore as _, UnitSums,
};
use flywheel_storage::{EventStore as _, NewEvent, StateStore as _};
use flywheel_storage_sql::SqliteStore;
use jiff::Timestamp;
use tempfile::TempDir;

use super::open_in;

pub(super) const DAY: i64 = 86_400;
/// A moment at which a day begins.
pub(super) const BEGIN: i64 = 19_676 * DAY;

pub(super) fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn metrics() -> Vec<Metric> {
    let mut metrics = starter_set();
    let mut more = |text: &str| metrics.push(serde_json::from_str(text).unwrap());
    more(
        r#"{"name": "seconds", "kind": "continuous", "source": "outcome:seconds", "direction": "lower", "cap": 700, "covariate": true}"#,
    );
    more(
        r#"{"name": "tools_fit", "kind": "binary", "source": "signal:tool_success", "direction": "higher"}"#,
    );
    more(
        r#"{"name": "calls", "kind": "count", "source": "signal:calls", "direction": "higher", "cap": 2}"#,
    );
    more(
        r#"{"name": "soon", "kind": "binary", "source": "thumbs", "direction": "higher", "window_hours": 24}"#,
    );
    more(
        r#"{"name": "cost_per_token", "kind": "ratio", "source": "signal:cost_usd", "per": "signal:output_tokens", "direction": "lower"}"#,
    );
    metrics
}

pub(super) fn experiment() -> Experiment {
    let arm = |text: &str| Arm {
        name: name(text),
        manifest: Some(ContentHash::of_bytes(text.as_bytes())),
        weight: 5000,
    };
    let mut plan = Plan {
        primary: Some(name("task_completed")),
        mde: Some(Effect::Absolute(0.05)),
        segments: vec!["language".to_owned()],
        minimum_days: 2,
        ..Plan::unplanned(name("a"), metrics())
    };
    plan.thresholds.insert(name("latency_p95"), 500.0);
    let epoch = |seconds| Epoch {
        since: second(seconds),
        weights: vec![5000, 5000],
        exposure: 10_000,
        stopped_arm: None,
    };
    Experiment {
        name: name("tone"),
        app: name("support"),
        environment: name("production"),
        hypothesis: String::new(),
        salt: "salt".to_owned(),
        unit: UnitKind::User,
        layer: "l".to_owned(),
        layer_share: 10_000,
        layer_offset: 0,
        arms: vec![arm("a"), arm("b")],
        exposure: 10_000,
        status: ExperimentStatus::Running,
        created_at: second(BEGIN),
        started_at: Some(second(BEGIN)),
        stopped_at: None,
        plan,
        plan_hash: None,
        plan_changes: Vec::new(),
        epochs: vec![epoch(BEGIN), epoch(BEGIN + DAY)],
        decision: None,
    }
}

pub(super) async fn keep(store: &SqliteStore, experiment: &Experiment) {
    let mut transaction = store.begin().await.unwrap();
    transaction.experiments().put(experiment).await.unwrap();
    transaction.commit().await.unwrap();
}

fn made_up(random: &mut fastrand::Rng) -> NewEvent {
    let number = random.u32(0..400);
    if random.u8(0..3) > 0 {
        return NewEvent::Feedback(Box::new(made_up_feedback(random, &format!("c{number}"))));
    }
    // Of one id there is one call, or a duplicate.
    let mut fixed = fastrand::Rng::with_seed(u64::from(number));
    NewEvent::Call(Box::new(made_up_call(&mut fixed, &format!("c{number}"))))
}

fn made_up_call(random: &mut fastrand::Rng, id: &str) -> Call {
    let mut call = call(id, "support", second(BEGIN + random.i64(0..3 * DAY)));
    let facts = &mut call.facts;
    let user = random.u32(0..60);
    facts.experiment = (random.u8(0..6) > 0).then(|| name("tone"));
    // A few users change their arm.
    let arm = if random.u8(0..25) == 0 {
        user + 1
    } else {
        user
    };
    facts.arm = Some(name(["a", "b"][arm as usize % 2]));
    facts.unit = (random.u8(0..20) > 0).then(|| format!("u{user}"));
    facts.environment = Some(name("production"));
    facts.status = CallStatus::ALL[random.usize(0..CallStatus::ALL.len())];
    facts.tool_success = random.bool().then(|| random.bool());
    facts.latency_us = random.bool().then(|| random.u64(1..1_000_000));
    facts.cost_nano_usd = random.bool().then(|| random.i64(0..1_000_000_007));
    facts.usage = random.bool().then(|| Usage {
        input_tokens: random.u64(0..900),
        output_tokens: random.u64(1..300),
        cached_input_tokens: 0,
    });
    let language = ["en", "de"][random.usize(0..2)];
    facts.tags.insert("language".to_owned(), language.into());
    call
}

fn made_up_feedback(random: &mut fastrand::Rng, call: &str) -> Feedback {
    let id = format!("f{}", random.u16(0..8));
    let at = second(BEGIN + random.i64(0..4 * DAY));
    let body = match random.u8(0..5) {
        0 => FeedbackBody::Thumbs {
            value: random.bool(),
        },
        1 => FeedbackBody::Correction {
            text: "rather so".to_owned(),
        },
        2 => FeedbackBody::Rating {
            value: random.i32(1..=5).into(),
            scale: RatingScale {
                min: 1.0,
                max: [5.0, 10.0][random.usize(0..2)],
            },
        },
        3 => outcome("seconds", 300.1 + f64::from(random.u8(0..4)) * 77.7),
        _ => outcome("task_completed", f64::from(random.u8(0..2))),
    };
    feedback(&id, call, body, at)
}

/// What was stored, in the order in which it came.
#[derive(Default)]
struct Stored {
    calls: Vec<Call>,
    feedback: Vec<Feedback>,
}

impl Stored {
    fn take(&mut self, event: NewEvent) {
        match event {
            NewEvent::Call(call) if self.calls.iter().all(|known| known.id != call.id) => {
                self.calls.push(*call);
            }
            NewEvent::Feedback(piece)
                if self
                    .feedback
                    .iter()
                    .all(|known| (&known.call_id, &known.id) != (&piece.call_id, &piece.id)) =>
            {
                self.feedback.push(*piece);
            }
            _ => {}
        }
    }

    /// What counts of a series on a call: the latest, as far as it is not too late.
    fn latest(
        &self,
        metric: &Metric,
        call: &Call,
        kind: &str,
        outcome: Option<&str>,
    ) -> Option<&Feedback> {
        let until = metric.window_hours.map_or(i64::MAX, |hours| {
            call.started_at.as_second() + i64::from(hours) * 3600
        });
        let is_it = |piece: &&Feedback| {
            let named = match &piece.body {
                FeedbackBody::Outcome { name, .. } => Some(name.as_str()),
                _ => None,
            };
            piece.call_id == call.id
                && piece.body.kind() == kind
                && named == outcome
                && piece.created_at.as_second() <= until
        };
        self.feedback
            .iter()
            .filter(is_it)
            .max_by_key(|piece| piece.created_at)
    }

    /// The outcome `seconds` on calls before a unit's first exposure, as far as it was said before.
    fn seconds_before(&self, unit: &str, first: Timestamp) -> [f64; 2] {
        let earlier = self
            .calls
            .iter()
            .filter(|call| call.facts.unit.as_deref() == Some(unit) && call.started_at < first);
        let mut sums = [0.0; 2];
        for call in earlier {
            let is_it = |piece: &&Feedback| {
                let body = &piece.body;
                let is_seconds = matches!(body, FeedbackBody::Outcome { name, .. } if name.as_str() == "seconds");
                is_seconds && piece.call_id == call.id && piece.created_at < first
            };
            let said = self.feedback.iter().filter(is_it);
            if let Some(piece) = said.max_by_key(|piece| piece.created_at) {
                sums = [sums[0] + piece.body.value().unwrap(), sums[1] + 1.0];
            }
        }
        sums
    }

    /// The feedback that a metric reads of a call.
    fn opinion(&self, metric: &Metric, call: &Call) -> Option<&Feedback> {
        let MetricSource::Feedback(series) = &metric.source else {
            return None;
        };
        match series.split_once(':') {
            Some((kind, outcome)) => self.latest(metric, call, kind, Some(outcome)),
            None => self.latest(metric, call, series, None),
        }
    }

    /// Numerator and denominator of a metric for one call, straight from what was said and measured.
    fn part(&self, metric: &Metric, call: &Call) -> Option<(f64, f64)> {
        let facts = &call.facts;
        let latest = |kind: &str, outcome: Option<&str>| self.latest(metric, call, kind, outcome);
        let value = |piece: &Feedback| piece.body.value().unwrap();
        match metric.name.as_str() {
            "thumbs_up" | "soon" => latest("thumbs", None).map(|piece| (value(piece), 1.0)),
            "rating" => latest("rating", None).map(|piece| match piece.body {
                FeedbackBody::Rating { value, scale } => {
                    (1.0 + 4.0 * (value - 1.0) / (scale.max - 1.0), 1.0)
                }
                _ => unreachable!(),
            }),
            "task_completed" | "seconds" => {
                latest("outcome", Some(metric.name.as_str())).map(|piece| (value(piece), 1.0))
            }
            "corrections" => {
                let said = latest("correction", None).is_some();
                Some((f64::from(u8::from(said)), 1.0))
            }
            "hard_failures" => {
                let failed = matches!(
                    facts.status,
                    CallStatus::ProviderError | CallStatus::GatewayError
                );
                Some((f64::from(u8::from(failed)), 1.0))
            }
            "soft_failures" => {
                let failed = facts.status == CallStatus::InvalidOutput;
                Some((f64::from(u8::from(failed)), 1.0))
            }
            "tools_fit" => facts
                .tool_success
                .map(|fit| (f64::from(u8::from(fit)), 1.0)),
            "latency_p95" => facts
                .latency_us
                .map(|us| (f64::from(u8::from(us > 500_000)), 1.0)),
            "cost_per_call" => facts.cost_nano_usd.map(|nano| (nano as f64 / 1e9, 1.0)),
            "output_tokens" => facts.usage.map(|usage| (usage.output_tokens as f64, 1.0)),
            "calls" => Some((1.0, 1.0)),
            "cost_per_token" => {
                let cost = facts.cost_nano_usd.map(|nano| nano as f64 / 1e9);
                let tokens = facts.usage.map(|usage| usage.output_tokens as f64);
                (cost.is_some() || tokens.is_some())
                    .then(|| (cost.unwrap_or(0.0), tokens.unwrap_or(0.0)))
            }
            _ => None,
        }
    }
}

/// A unit as somebody would count it by hand.
struct ByHand<'a> {
    epoch: usize,
    arm: usize,
    first: Timestamp,
    language: String,
    is_dropped: bool,
    calls: Vec<&'a Call>,
    /// What the outcome `seconds` came to before the first exposure, and how many there were.
    before: [f64; 2],
}

fn by_hand<'a>(experiment: &Experiment, stored: &'a Stored) -> BTreeMap<&'a str, ByHand<'a>> {
    let mut units: BTreeMap<&str, ByHand<'_>> = BTreeMap::new();
    // In the order in which they began, whenever they came.
    let mut calls: Vec<&Call> = stored.calls.iter().collect();
    calls.sort_by_key(|call| call.started_at);
    for call in calls {
        let (Some(_), Some(unit), Some(arm)) =
            (&call.facts.experiment, &call.facts.unit, &call.facts.arm)
        else {
            continue;
        };
        let arm = usize::from(arm.as_str() == "b");
        let unit = units.entry(unit).or_insert_with(|| ByHand {
            epoch: experiment.epoch_at(call.started_at),
            arm,
            first: call.started_at,
            language: format!("language={}", call.facts.tags["language"].as_str().unwrap()),
            is_dropped: false,
            calls: Vec::new(),
            before: stored.seconds_before(unit, call.started_at),
        });
        unit.is_dropped |= unit.arm != arm;
        unit.calls.push(call);
    }
    units
}

fn sums_by_hand<'a>(
    plan: &Plan,
    stored: &Stored,
    reading: usize,
    units: impl Iterator<Item = &'a ByHand<'a>>,
) -> UnitSums {
    let reading = plan.readings()[reading];
    let metric = &plan.metrics[reading.metric];
    let mut sums = UnitSums::default();
    for unit in units.filter(|unit| !unit.is_dropped) {
        let (mut x, mut y) = (0.0, 0.0);
        for call in &unit.calls {
            let is_early = call.started_at.as_second() < unit.first.as_second() + DAY;
            let is_in = match reading.part {
                Part::Early => is_early,
                Part::Late => !is_early,
                _ => true,
            };
            if let Some(part) = stored.part(metric, call).filter(|_| is_in) {
                x += part.0;
                y += part.1;
            }
        }
        if metric.kind == MetricKind::Count {
            y = 1.0;
        }
        if y == 0.0 {
            continue;
        }
        // A total is cut to the cap, a mean so that the unit's own is.
        let most = |y: f64| match metric.kind {
            MetricKind::Count => metric.cap.unwrap(),
            _ => metric.cap.unwrap() * y,
        };
        if reading.part == Part::Capped && x > most(y) {
            x = most(y);
            sums.capped += 1;
        }
        let [mut x_before, y_before] = match (metric.name.as_str(), reading.part) {
            ("seconds", Part::Whole | Part::Capped) => unit.before,
            _ => [0.0; 2],
        };
        if reading.part == Part::Capped && metric.kind != MetricKind::Count {
            x_before = x_before.min(most(y_before));
        }
        sums.put(&[x, y, x_before, y_before], true);
    }
    sums
}

/// Units by the mean time that their outcomes took.
fn delays_by_hand<'a>(
    plan: &Plan,
    stored: &Stored,
    reading: usize,
    units: impl Iterator<Item = &'a ByHand<'a>>,
) -> BTreeMap<i32, i64> {
    let metric = &plan.metrics[plan.readings()[reading].metric];
    let mut classes = BTreeMap::new();
    for unit in units.filter(|unit| !unit.is_dropped) {
        let took: Vec<i64> = unit
            .calls
            .iter()
            .filter_map(|call| stored.opinion(metric, call).map(|piece| (call, piece)))
            .map(|(call, piece)| {
                piece.created_at.as_microsecond() - call.started_at.as_microsecond()
            })
            .map(|microseconds| microseconds.max(0))
            .collect();
        if !took.is_empty() {
            let mean = took.iter().sum::<i64>() as f64 / took.len() as f64;
            *classes.entry(bucket(mean)).or_default() += 1;
        }
    }
    classes
}

fn assert_near(found: f64, expected: f64, scale: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 1e-9 * scale.max(1e-9),
        "{what}: {found} is not {expected}"
    );
}

fn assert_alike(found: &UnitSums, expected: &UnitSums, what: &str) {
    assert_eq!(
        (found.n, found.capped, found.any, found.not_all),
        (expected.n, expected.capped, expected.any, expected.not_all),
        "{what}"
    );
    for column in 0..4 {
        let expected = expected.sum(column);
        assert_near(found.sum(column), expected, expected.abs(), what);
    }
    for (left, right) in [(0, 0), (0, 1), (1, 1), (0, 2), (2, 2), (2, 3)] {
        let largest = (expected.centred(left, left) * expected.centred(right, right)).sqrt();
        let expected = expected.centred(left, right);
        assert_near(found.centred(left, right), expected, largest, what);
    }
}

pub(super) fn total(
    statistics: &ExperimentStatistics,
    place: (usize, usize),
    reading: usize,
) -> UnitSums {
    let mut sums = UnitSums::default();
    let days = statistics
        .arms
        .get(&place)
        .and_then(|arm| arm.readings.get(&reading));
    for day in days.into_iter().flatten() {
        sums.add(day.1);
    }
    sums
}

/// What is known once nothing is being made again.
pub(super) async fn settled(store: &SqliteStore, name: &ExperimentName) -> ExperimentStatistics {
    loop {
        let found = store.experiment_statistics(name).await.unwrap();
        if found.rebuilt.is_none() {
            return found;
        }
        store.maintain().await.unwrap();
    }
}

/// Of days before one nothing was changed or added.
fn assert_days_are_kept(
    known: &ExperimentStatistics,
    found: &ExperimentStatistics,
    open: i64,
    what: &str,
) {
    let before = |statistics: &ExperimentStatistics| {
        let mut days = BTreeMap::new();
        for (place, arm) in &statistics.arms {
            for (reading, sums) in &arm.readings {
                let earlier = sums.iter().filter(|(day, _)| **day < open);
                days.extend(earlier.map(|(day, sums)| ((*place, *reading, *day), *sums)));
            }
        }
        days
    };
    let (known, found) = (before(known), before(found));
    assert_eq!(
        known.keys().collect::<Vec<_>>(),
        found.keys().collect::<Vec<_>>(),
        "{what}"
    );
    for (key, sums) in &known {
        assert_alike(&found[key], sums, &format!("{what}, {key:?}"));
    }
}

/// Readings of which every unit is in a class.
fn whole_histograms(plan: &Plan) -> Vec<(usize, &Metric)> {
    let classed = |metric: &Metric| matches!(metric.kind, MetricKind::Ordinal | MetricKind::Count);
    let readings = plan.readings().into_iter().enumerate();
    readings
        .filter(|(_, reading)| reading.part == Part::Whole)
        .map(|(place, reading)| (place, &plan.metrics[reading.metric]))
        .filter(|(_, metric)| classed(metric))
        .collect()
}

async fn check(store: &SqliteStore, experiment: &Experiment, stored: &Stored, what: &str) {
    let found = settled(store, &experiment.name).await;
    let units = by_hand(experiment, stored);
    let places: BTreeSet<(usize, usize)> = units.values().map(|u| (u.epoch, u.arm)).collect();
    assert_eq!(
        found.arms.keys().copied().collect::<BTreeSet<_>>(),
        places,
        "{what}"
    );
    for place in places {
        let here = || {
            units
                .values()
                .filter(|unit| (unit.epoch, unit.arm) == place)
        };
        let arm = &found.arms[&place];
        let what = format!("{what}, {place:?}");
        assert_eq!(
            arm.assigned.values().sum::<i64>(),
            here().count() as i64,
            "{what}"
        );
        let dropped = here().filter(|unit| unit.is_dropped).count() as i64;
        assert_eq!(arm.in_two_arms + arm.moved, dropped, "{what}");
        for reading in 0..experiment.plan.readings().len() {
            let what = format!("{what}, reading {reading}");
            if experiment.plan.readings()[reading].part == Part::Delay {
                let found = arm.histograms.get(&reading).cloned().unwrap_or_default();
                let expected = delays_by_hand(&experiment.plan, stored, reading, here());
                assert_eq!(found, expected, "{what}");
                assert!(!arm.readings.contains_key(&reading), "{what}");
                continue;
            }
            let expected = sums_by_hand(&experiment.plan, stored, reading, here());
            assert_alike(&total(&found, place, reading), &expected, &what);
            for language in ["language=en", "language=de"] {
                let Some(found) = arm.segments.get(&(reading, language.to_owned())) else {
                    continue;
                };
                let spoken = here().filter(|unit| unit.language == language);
                let expected = sums_by_hand(&experiment.plan, stored, reading, spoken);
                assert_alike(found, &expected, &format!("{what}, {language}"));
            }
        }
        for (reading, metric) in whole_histograms(&experiment.plan) {
            let classes = arm.histograms.get(&reading).into_iter().flatten();
            let n: i64 = classes.map(|(_, n)| n).sum();
            let of = format!("{what}, {}", metric.name);
            assert_eq!(n, total(&found, place, reading).n, "{of}");
        }
        let of_calls = |(_, r): &(usize, flywheel_core::plan::Reading)| {
            experiment.plan.metrics[r.metric].name.as_str() == "latency_p95"
        };
        let mut readings = experiment.plan.readings().into_iter().enumerate();
        let (reading, _) = readings.find(of_calls).unwrap();
        let mut expected: BTreeMap<i32, i64> = BTreeMap::new();
        let counted = here().filter(|unit| !unit.is_dropped);
        for latency in counted.flat_map(|u| u.calls.iter().filter_map(|c| c.facts.latency_us)) {
            *expected.entry(bucket(latency as f64 / 1e3)).or_default() += 1;
        }
        let classes = arm.histograms.get(&reading).cloned().unwrap_or_default();
        assert_eq!(classes, expected, "{what}, calls by latency");
        // All days up to each are what some moment saw, and no sum of squares is negative.
        let mut sums = UnitSums::default();
        for day in arm.readings.get(&2).into_iter().flatten() {
            sums.add(day.1);
            assert!(sums.n >= 0 && sums.sum(0) >= 0.0, "{what}: {sums:?}");
        }
    }
}

#[tokio::test]
async fn statistics_say_what_the_events_say_and_the_same_when_made_again() {
    for seed in 0..6 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let folder = TempDir::new().unwrap();
        let mut store = open_in(&folder).await;
        let experiment = experiment();
        keep(&store, &experiment).await;
        let mut stored = Stored::default();
        let mut closed: Vec<(i64, ExperimentStatistics)> = Vec::new();
        for round in 0..12 {
            let what = format!("seed {seed}, round {round}");
            let events: Vec<_> = (0..random.usize(1..150)).map(|_| made_up(random)).collect();
            for event in &events {
                stored.take(event.clone());
            }
            store.append(events).await.unwrap();
            match random.u8(0..6) {
                0 => store.maintain().await.unwrap(),
                1 => {
                    store.close().await.unwrap();
                    store = open_in(&folder).await;
                }
                2 => {
                    let rebuilt = store
                        .rebuild_statistics(&experiment.name, second(BEGIN))
                        .await
                        .unwrap();
                    assert_eq!(rebuilt, Rebuild::Begun);
                }
                3 => {
                    let known = settled(&store, &experiment.name).await;
                    let open = random.i64(0..5);
                    store
                        .close_days(&experiment.name, second(BEGIN + open * DAY))
                        .await
                        .unwrap();
                    closed.push((BEGIN / DAY + open, known));
                }
                _ => {}
            }
            if random.bool() {
                check(&store, &experiment, &stored, &what).await;
            }
        }
        check(&store, &experiment, &stored, "at the end").await;
        let kept = settled(&store, &experiment.name).await;
        store
            .rebuild_statistics(&experiment.name, second(BEGIN))
            .await
            .unwrap();
        check(&store, &experiment, &stored, "made again").await;
        let again = store.experiment_statistics(&experiment.name).await.unwrap();
        assert_eq!(again.arms.len(), kept.arms.len());
        for (open, known) in closed {
            assert_days_are_kept(&known, &again, open, &format!("seed {seed}, before {open}"));
        }
        for (place, arm) in &kept.arms {
            assert_eq!(again.arms[place].histograms, arm.histograms, "seed {seed}");
        }
        // What could be read on past days stays what it was.
        assert_days_are_kept(&kept, &again, i64::MAX, &format!("seed {seed}"));
    }
}

/// A file of an earlier release knows less of its units; what can be is made again when it is opened.
#[tokio::test]
async fn statistics_of_an_earlier_release_are_made_again() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    let experiment = experiment();
    keep(&store, &experiment).await;
    let random = &mut fastrand::Rng::with_seed(7);
    let events: Vec<_> = (0..400).map(|_| made_up(random)).collect();
    let mut stored = Stored::default();
    for event in &events {
        stored.take(event.clone());
    }
    store.append(events).await.unwrap();
    check(&store, &experiment, &stored, "before").await;
    store.close().await.unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("flywheel.db")).unwrap();
    connection
        .execute_batch(
            "DELETE FROM _sqlx_migrations WHERE version >= 4;
             DROP TABLE week_progress;
             DROP TABLE week_units;
             DROP TABLE week_sums;
             ALTER TABLE calls DROP COLUMN tool_success;
             DROP TABLE experiment_sums_again;
             DROP TABLE experiment_open_days;
             DROP TABLE experiment_recounts;
             UPDATE experiment_sums SET sums = '[1.0,0.0]';
             DELETE FROM experiment_histograms;",
        )
        .unwrap();
    drop(connection);
    for call in &mut stored.calls {
        call.facts.tool_success = None;
    }
    let store = open_in(&folder).await;
    let found = store.experiment_statistics(&experiment.name).await.unwrap();
    assert!(found.rebuilt.is_some());
    let units = store.experiment_units(&experiment.name, None, 10).await;
    assert_eq!(units.unwrap(), None, "some would look like all of them");
    check(&store, &experiment, &stored, "made again").await;
}

#[tokio::test]
async fn what_retention_removed_cannot_be_made_again() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    let experiment = experiment();
    keep(&store, &experiment).await;
    let mut first = made_up_call(&mut fastrand::Rng::with_seed(1), "c1");
    first.started_at = second(BEGIN + 10);
    first.facts.experiment = Some(experiment.name.clone());
    first.facts.unit = Some("u1".to_owned());
    store
        .append(vec![NewEvent::Call(Box::new(first))])
        .await
        .unwrap();
    let before = store.experiment_statistics(&experiment.name).await.unwrap();
    assert_eq!(before.arms.len(), 1);
    let bound = PruneBound::Before(second(BEGIN + DAY));
    while store.prune(bound).await.unwrap() > 0 {}
    let answer = store
        .rebuild_statistics(&experiment.name, second(BEGIN))
        .await
        .unwrap();
    assert_eq!(answer, Rebuild::EventsRemoved);
    let after = store.experiment_statistics(&experiment.name).await.unwrap();
    assert_eq!(after, before);
}

#[tokio::test]
async fn covariates_and_history_are_what_was_before() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    let mut experiment = experiment();
    let tokens = experiment
        .plan
        .metrics
        .iter()
        .position(|m| m.name.as_str() == "output_tokens");
    experiment.plan.metrics[tokens.unwrap()].covariate = true;
    keep(&store, &experiment).await;
    let a_call = |id: &str, at: i64, tokens: u64, exposed: bool| {
        let mut call = call(id, "support", second(at));
        call.facts.environment = Some(name("production"));
        call.facts.unit = Some("ada".to_owned());
        call.facts.usage = Some(Usage {
            input_tokens: 1,
            output_tokens: tokens,
            cached_input_tokens: 0,
        });
        if exposed {
            call.facts.experiment = Some(name("tone"));
            call.facts.arm = Some(name("b"));
        } else {
            call.facts.experiment = None;
            call.facts.arm = None;
        }
        NewEvent::Call(Box::new(call))
    };
    let calls = vec![
        a_call("old", BEGIN - 40 * DAY, 900, false),
        a_call("before", BEGIN - DAY, 100, false),
        a_call("sooner", BEGIN - 60, 20, false),
        a_call("in", BEGIN + 5, 300, true),
    ];
    store.append(calls).await.unwrap();
    store.maintain().await.unwrap();
    let units = store
        .experiment_units(&experiment.name, None, 10)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(units.len(), 1);
    let readings = experiment.plan.readings();
    let place = readings
        .iter()
        .position(|r| Some(r.metric) == tokens)
        .unwrap();
    assert_eq!(units[0].readings[&place], [300.0, 1.0, 120.0, 2.0]);
    let next = store
        .experiment_units(&experiment.name, Some("ada"), 10)
        .await
        .unwrap();
    assert_eq!(next, Some(Vec::new()));

    let query = HistoryQuery {
        app: name("support"),
        environment: name("production"),
        unit: UnitKind::User,
        metrics: vec![experiment.plan.metrics[tokens.unwrap()].clone()],
        since: second(BEGIN - 28 * DAY),
        until: second(BEGIN),
    };
    let history = store.unit_history(&query).await.unwrap();
    assert_eq!(history.distinct_units, [1, 1]);
    assert_eq!(history.metrics[0].sums.n, 1);
    assert_eq!(history.metrics[0].sums.sum(0), 120.0);
}
