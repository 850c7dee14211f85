//! Reading the statistics of an experiment: sums, never events.

use std::collections::BTreeMap;

use flywheel_core::experiment::Arm;
use flywheel_core::metric::MetricKind;
use flywheel_core::name::ExperimentName;
use flywheel_core::plan::Plan;
use flywheel_storage::StorageResult;
use flywheel_storage::statistics::{ArmStatistics, COLUMNS, ExperimentStatistics, UnitRow};
use jiff::Timestamp;
use sqlx::{SqliteConnection, query};

use super::super::error::failed;
use super::super::fields::Fields;
use super::ALL;
use super::state::{ASSIGNED, IN_TWO_ARMS, MOVED, read_values};
use super::write::{read_classes, read_sums};

/// What is known of an experiment's units.
pub(in super::super) async fn statistics(
    connection: &mut SqliteConnection,
    experiment: &ExperimentName,
) -> StorageResult<ExperimentStatistics> {
    let mut statistics = ExperimentStatistics {
        rebuilt: rebuilt(connection, experiment).await?,
        ..ExperimentStatistics::default()
    };
    let rows = query(
        "SELECT epoch, arm, reading, segment, day, sums FROM experiment_sums WHERE experiment = $1",
    )
    .bind(experiment.as_str())
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("reading the sums of an experiment"))?;
    for row in &rows {
        let fields = Fields::new(row, "experiment_sums", &["epoch", "arm", "reading"]);
        let place = (
            fields.count("epoch")? as usize,
            fields.count("arm")? as usize,
        );
        let arm = statistics.arms.entry(place).or_default();
        let sums = read_sums(fields.raw("sums")?);
        let (segment, day) = (fields.text("segment")?, fields.raw("day")?);
        match fields.raw::<i64>("reading")? {
            ASSIGNED => *arm.assigned.entry(day).or_default() += sums.n,
            IN_TWO_ARMS => arm.in_two_arms += sums.n,
            MOVED => arm.moved += sums.n,
            reading => {
                let reading = usize::try_from(reading).unwrap_or_default();
                if segment.is_empty() {
                    arm.readings.entry(reading).or_default().insert(day, sums);
                } else {
                    arm.segments
                        .entry((reading, segment))
                        .or_default()
                        .add(&sums);
                }
            }
        }
    }
    let rows = query(
        "SELECT epoch, arm, reading, classes FROM experiment_histograms WHERE experiment = $1",
    )
    .bind(experiment.as_str())
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("reading the histograms of an experiment"))?;
    for row in &rows {
        let fields = Fields::new(row, "experiment_histograms", &["epoch", "arm", "reading"]);
        let place = (
            fields.count("epoch")? as usize,
            fields.count("arm")? as usize,
        );
        let arm: &mut ArmStatistics = statistics.arms.entry(place).or_default();
        let reading = fields.count("reading")? as usize;
        arm.histograms
            .insert(reading, read_classes(fields.raw("classes")?));
    }
    Ok(statistics)
}

/// Which share of an experiment's events is taken in again, if they are.
async fn rebuilt(
    connection: &mut SqliteConnection,
    experiment: &ExperimentName,
) -> StorageResult<Option<f64>> {
    let row = query(
        "SELECT own.calls + own.feedback AS done, shared.calls + shared.feedback AS all_of_them
         FROM experiment_progress AS own, experiment_progress AS shared
         WHERE own.experiment = $1 AND shared.experiment = $2",
    )
    .bind(experiment.as_str())
    .bind(ALL)
    .fetch_optional(connection)
    .await
    .map_err(failed(
        "reading how far the statistics of an experiment are",
    ))?;
    row.map(|row| {
        let fields = Fields::new(&row, "experiment_progress", &[]);
        let (done, all) = (fields.count("done")?, fields.count("all_of_them")?);
        Ok(done as f64 / (all as f64).max(1.0))
    })
    .transpose()
}

/// Units in the order of their names; nothing while they are made again.
pub(in super::super) async fn units(
    connection: &mut SqliteConnection,
    experiment: &ExperimentName,
    after: Option<&str>,
    limit: u32,
) -> StorageResult<Option<Vec<UnitRow>>> {
    if rebuilt(connection, experiment).await?.is_some() {
        return Ok(None);
    }
    let row = query("SELECT arms, plan FROM experiments WHERE name = $1")
        .bind(experiment.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("reading the plan of an experiment"))?;
    let Some(row) = row else {
        return Ok(Some(Vec::new()));
    };
    let fields = Fields::new(&row, "experiments", &[]);
    let arms: Vec<Arm> = fields.json("arms")?;
    let plan: Option<Plan> = match fields.optional_json("plan")? {
        Some(plan) => Some(plan),
        None => super::super::experiments::unplanned(&arms),
    };
    let readings = plan.as_ref().map(Plan::readings).unwrap_or_default();
    let counts_all = |place: &usize| {
        let reading = readings.get(*place);
        let metric = plan
            .as_ref()
            .zip(reading)
            .map(|(plan, r)| &plan.metrics[r.metric]);
        metric.is_some_and(|metric| metric.kind == MetricKind::Count)
    };
    let rows = query(
        "SELECT unit, epoch, arm, first_at, state, segments, readings FROM experiment_units
         WHERE experiment = $1 AND unit > $2 ORDER BY unit LIMIT $3",
    )
    .bind(experiment.as_str())
    .bind(after.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("listing the units of an experiment"))?;
    rows.iter()
        .map(|row| {
            let fields = Fields::new(row, "experiment_units", &["unit"]);
            let first_at: Timestamp = fields.time("first_at")?;
            let values = read_values(fields.raw("readings")?);
            let counts = fields.raw::<i64>("state")? == 0;
            let mut values: BTreeMap<usize, [f64; COLUMNS]> = values
                .into_iter()
                .map(|(place, value)| {
                    let [x_before, y_before] = value.before;
                    let (x, y) = (value.x.value(), value.y.value());
                    (place, [x, y, x_before, y_before])
                })
                .collect();
            // Of totals every unit that counts has one, be it 0.
            for place in (0..readings.len()).filter(|place| counts && counts_all(place)) {
                values.entry(place).or_default()[1] = 1.0;
            }
            Ok(UnitRow {
                unit: fields.text("unit")?,
                epoch: fields.count("epoch")? as usize,
                arm: fields.count("arm")? as usize,
                first_at,
                counts,
                segments: fields.optional_json("segments")?.unwrap_or_default(),
                readings: values,
            })
        })
        .collect::<StorageResult<_>>()
        .map(Some)
}
