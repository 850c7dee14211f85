//! What a change of an experiment makes of its units is so before anything else is read, whatever happens in between.

use flywheel_core::experiment::{Epoch, Experiment};
use flywheel_core::plan::{Part, Reading};
use flywheel_storage::conformance::samples::{call, feedback, name, outcome};
use flywheel_storage::events::PruneBound;
use flywheel_storage::statistics::{Rebuild, StatisticsStore as _};
use flywheel_storage::{EventStore as _, NewEvent};
use flywheel_storage_sql::SqliteStore;
use tempfile::TempDir;

use super::open_in;
use super::units::{BEGIN, DAY, experiment, keep, second, settled, total};

const UNITS: u32 = 300;

fn even() -> Experiment {
    let mut experiment = experiment();
    experiment.epochs.truncate(1);
    experiment
}

/// The same with other weights from the third day on.
fn changed() -> Experiment {
    let mut experiment = even();
    for (arm, weight) in experiment.arms.iter_mut().zip([2000, 8000]) {
        arm.weight = weight;
    }
    experiment.epochs.push(Epoch {
        since: second(BEGIN + 2 * DAY),
        weights: vec![2000, 8000],
        ..experiment.epochs[0].clone()
    });
    experiment
}

fn arm_of(experiment: &Experiment, unit: u32) -> usize {
    let given = experiment.assign(&format!("u{unit}")).unwrap();
    let is_it = |arm: &_| std::ptr::eq::<flywheel_core::experiment::Arm>(arm, given);
    experiment.arms.iter().position(is_it).unwrap()
}

/// A unit calls in its arm, and says at once whether it completed.
fn visit(experiment: &Experiment, id: &str, unit: u32, at: i64, completed: f64) -> [NewEvent; 2] {
    let mut call = call(id, "support", second(at));
    call.facts.experiment = Some(experiment.name.clone());
    call.facts.arm = Some(name(["a", "b"][arm_of(experiment, unit)]));
    call.facts.unit = Some(format!("u{unit}"));
    call.facts.environment = Some(name("production"));
    call.facts.latency_us = Some(1000);
    let body = outcome("task_completed", completed);
    let said = feedback("f", id, body, second(at));
    [
        NewEvent::Call(Box::new(call)),
        NewEvent::Feedback(Box::new(said)),
    ]
}

/// Every unit has called once, and completed.
async fn filled(store: &SqliteStore) {
    let experiment = even();
    keep(store, &experiment).await;
    let visits =
        (0..UNITS).flat_map(|unit| visit(&experiment, &format!("c{unit}"), unit, BEGIN + 10, 1.0));
    store.append(visits.collect()).await.unwrap();
}

fn moved() -> i64 {
    let (before, after) = (even(), changed());
    let is_moved = |unit: &u32| arm_of(&before, *unit) != arm_of(&after, *unit);
    (0..UNITS).filter(is_moved).count() as i64
}

/// The reading of the primary metric.
fn completed(experiment: &Experiment) -> usize {
    let plan = &experiment.plan;
    let is_it = |reading: &Reading| plan.metrics[reading.metric].name.as_str() == "task_completed";
    plan.readings().iter().position(is_it).unwrap()
}

async fn assert_left_out(store: &SqliteStore) {
    let experiment = changed();
    let found = settled(store, &experiment.name).await;
    let primary = completed(&experiment);
    let arm = &found.arms[&(0, 0)];
    assert_eq!(arm.moved, moved());
    assert!(moved() > 50);
    let assigned: i64 = arm.assigned.values().sum();
    assert_eq!(total(&found, (0, 0), primary).n, assigned - moved());
    let other = &found.arms[&(0, 1)];
    assert_eq!(other.moved, 0);
    assert_eq!(
        total(&found, (0, 1), primary).n,
        other.assigned.values().sum::<i64>()
    );
    // The day on which they counted stays as it was.
    let first_day = BEGIN / DAY;
    assert_eq!(arm.readings[&primary][&first_day].n, assigned);
    assert_eq!(arm.readings[&primary][&(first_day + 2)].n, -moved());
}

#[tokio::test]
async fn a_crash_after_the_change_makes_no_difference() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    filled(&store).await;
    settled(&store, &even().name).await;
    keep(&store, &changed()).await;
    store.close().await.unwrap();
    let store = open_in(&folder).await;
    assert_left_out(&store).await;
    // Nothing is to be done any more.
    let name = changed().name;
    let found = store.experiment_statistics(&name).await.unwrap();
    assert_eq!(found.rebuilt, None);
    // It is what comes of all events, with what calls measured.
    let day = second(BEGIN + 2 * DAY);
    store.rebuild_statistics(&name, day).await.unwrap();
    let again = settled(&store, &name).await;
    for (place, arm) in &found.arms {
        assert_eq!(again.arms[place].histograms, arm.histograms);
        assert_eq!(again.arms[place].readings, arm.readings);
        assert_eq!(again.arms[place].moved, arm.moved);
    }
}

/// Who was in an arm before nobody was for a time stays with what they did until then, whether they come again or not, in it or
/// elsewhere.
#[tokio::test]
async fn what_an_arm_had_before_a_pause_stays() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    filled(&store).await;
    let before = settled(&store, &even().name).await;
    let mut resumed = even();
    for (day, weights) in [(1, [10_000, 0]), (2, [9000, 1000])] {
        for (arm, weight) in resumed.arms.iter_mut().zip(weights) {
            arm.weight = weight;
        }
        resumed.epochs.push(Epoch {
            since: second(BEGIN + day * DAY),
            weights: weights.to_vec(),
            ..resumed.epochs[0].clone()
        });
        keep(&store, &resumed).await;
    }
    let again = (0..UNITS).step_by(2).flat_map(|unit| {
        let id = format!("again{unit}");
        visit(&resumed, &id, unit, BEGIN + 3 * DAY, 0.0)
    });
    store.append(again.collect()).await.unwrap();
    let primary = completed(&resumed);
    for what in ["as it came", "made again"] {
        let after = settled(&store, &resumed.name).await;
        assert_eq!(after.arms[&(0, 1)].moved, 0, "{what}");
        let now = total(&after, (0, 1), primary);
        let then = total(&before, (0, 1), primary);
        assert_eq!((now.n, now.sum(1)), (then.n, then.sum(1)), "{what}");
        let day = second(BEGIN + 3 * DAY);
        store.rebuild_statistics(&resumed.name, day).await.unwrap();
    }
}

#[tokio::test]
async fn units_leave_where_retention_has_removed_their_calls() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    filled(&store).await;
    settled(&store, &even().name).await;
    let bound = PruneBound::Before(second(BEGIN + DAY));
    while store.prune(bound).await.unwrap() > 0 {}
    keep(&store, &changed()).await;
    assert_left_out(&store).await;
    let name = changed().name;
    let answer = store.rebuild_statistics(&name, second(BEGIN)).await;
    assert_eq!(answer.unwrap(), Rebuild::EventsRemoved);
}

/// Early is the first half of the minimum days, as they are now.
#[tokio::test]
async fn other_minimum_days_make_other_calls_early() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    filled(&store).await;
    let later = (0..UNITS).flat_map(|unit| {
        let id = format!("later{unit}");
        visit(&even(), &id, unit, BEGIN + 2 * DAY, 1.0)
    });
    store.append(later.collect()).await.unwrap();
    let early = async || {
        let readings = even().plan.readings();
        let is_early = |reading: &Reading| reading.part == Part::Early;
        let place = readings.iter().position(is_early).unwrap();
        let found = settled(&store, &even().name).await;
        [0, 1]
            .map(|arm| total(&found, (0, arm), place).sum(1))
            .iter()
            .sum::<f64>()
    };
    assert_eq!(early().await, f64::from(UNITS));
    let mut longer = even();
    longer.plan.minimum_days = 14;
    keep(&store, &longer).await;
    assert_eq!(early().await, f64::from(2 * UNITS));
}

/// What of a day that is over is logged late counts on the first that is not.
#[tokio::test]
async fn days_that_are_over_stay() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    filled(&store).await;
    let name = even().name;
    let before = settled(&store, &name).await;
    store
        .close_days(&name, second(BEGIN + 3 * DAY + 5))
        .await
        .unwrap();
    // Later it is never open again.
    store.close_days(&name, second(BEGIN)).await.unwrap();
    let mut events = Vec::new();
    for unit in 0..2 * UNITS {
        events.extend(visit(
            &even(),
            &format!("late{unit}"),
            unit,
            BEGIN + 40,
            1.0,
        ));
        let body = outcome("task_completed", 0.0);
        let said = feedback("g", &format!("c{unit}"), body, second(BEGIN + 40));
        events.push(NewEvent::Feedback(Box::new(said)));
    }
    store.append(events).await.unwrap();
    let after = settled(&store, &name).await;
    let (first_day, open) = (BEGIN / DAY, BEGIN / DAY + 3);
    let mut units = 0;
    let primary = completed(&even());
    for (place, arm) in &before.arms {
        let now = &after.arms[place];
        let days: Vec<i64> = now.readings[&primary].keys().copied().collect();
        assert_eq!(days, [first_day, open]);
        assert_eq!(
            now.readings[&primary][&first_day],
            arm.readings[&primary][&first_day]
        );
        assert_eq!(now.assigned[&first_day], arm.assigned[&first_day]);
        units += total(&after, *place, primary).n;
    }
    assert_eq!(units, i64::from(2 * UNITS));
}
