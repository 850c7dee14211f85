//! Experiments.

use async_trait::async_trait;
use flywheel_core::experiment::{Arm, Epoch, Experiment, ExperimentStatus};
use flywheel_core::metric;
use flywheel_core::name::ExperimentName;
use flywheel_core::plan::Plan;
use flywheel_storage::StorageResult;
use flywheel_storage::experiments::ExperimentRepository;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

use super::error::failed;
use super::fields::{Fields, document, spelling};
use super::units;

/// The experiments, over one connection.
pub(super) struct Experiments<'c>(pub(super) &'c mut SqliteConnection);

fn experiment_from(row: &SqliteRow) -> StorageResult<Experiment> {
    let fields = Fields::new(row, "experiments", &["name"]);
    let arms: Vec<Arm> = fields.json("arms")?;
    Ok(Experiment {
        name: fields.parsed("name")?,
        app: fields.parsed("app")?,
        environment: fields.parsed("environment")?,
        hypothesis: fields.text("hypothesis")?,
        salt: fields.text("salt")?,
        unit: fields.spelled("unit")?,
        layer: fields.text("layer")?,
        layer_share: fields.small_count("layer_share")?,
        layer_offset: fields.small_count("layer_offset")?,
        plan: match fields.optional_json("plan")? {
            Some(plan) => plan,
            None => unplanned(&arms).ok_or_else(|| fields.inconsistent("arms", None))?,
        },
        plan_hash: fields.optional_parsed("plan_hash")?,
        plan_changes: fields.optional_json("plan_changes")?.unwrap_or_default(),
        epochs: fields.optional_json("epochs")?.unwrap_or_default(),
        decision: fields.optional_json("decision")?,
        arms,
        exposure: fields.small_count("exposure")?,
        status: fields.spelled("status")?,
        created_at: fields.time("created_at")?,
        started_at: fields.optional_time("started_at")?,
        stopped_at: fields.optional_time("stopped_at")?,
    })
}

/// Experiments of a release that knew no plans.
pub(super) fn unplanned(arms: &[Arm]) -> Option<Plan> {
    let control = arms.first()?.name.clone();
    Some(Plan::unplanned(control, metric::starter_set()))
}

impl Experiments<'_> {
    /// Says that units are to be counted otherwise, if a change of an experiment that was started makes it so.
    async fn note_recount(&mut self, experiment: &Experiment) -> StorageResult<()> {
        let Some(latest) = experiment.epochs.last() else {
            return Ok(());
        };
        let row = query("SELECT name, epochs, plan FROM experiments WHERE name = $1")
            .bind(experiment.name.as_str())
            .fetch_optional(&mut *self.0)
            .await
            .map_err(failed("reading how the units of an experiment count"))?;
        let Some(row) = row else {
            return Ok(());
        };
        let fields = Fields::new(&row, "experiments", &["name"]);
        let epochs: Option<Vec<Epoch>> = fields.optional_json("epochs")?;
        let plan: Option<Plan> = fields.optional_json("plan")?;
        let Some(before) = epochs.iter().flatten().next_back() else {
            return Ok(());
        };
        // Where an arm was stopped, only its own units have another, and what they did until then stays.
        let is_moved = before.weights != latest.weights && latest.stopped_arm.is_none();
        let newcomer = experiment.plan.newcomer_seconds();
        let is_early_otherwise = plan.is_some_and(|plan| plan.newcomer_seconds() != newcomer);
        let changed_at = match experiment.plan_changes.last() {
            Some(change) => change.at.max(latest.since),
            None => latest.since,
        };
        if !is_moved && !is_early_otherwise {
            return Ok(());
        }
        query(
            "INSERT INTO experiment_recounts (experiment, day, again) VALUES ($1, $2, $3)
             ON CONFLICT (experiment) DO UPDATE
             SET day = excluded.day, after = '', again = max(again, excluded.again), changes = changes + 1",
        )
        .bind(experiment.name.as_str())
        .bind(units::day_of(changed_at))
        .bind(is_early_otherwise)
        .execute(&mut *self.0)
        .await
        .map_err(failed("noting that units count otherwise"))?;
        Ok(())
    }
}

#[async_trait]
impl ExperimentRepository for Experiments<'_> {
    #[tracing::instrument(name = "db.experiments.put", skip_all)]
    async fn put(&mut self, experiment: &Experiment) -> StorageResult<()> {
        self.note_recount(experiment).await?;
        query(
            "INSERT INTO experiments
                 (name, app, environment, hypothesis, salt, unit, layer, layer_share, layer_offset,
                  arms, exposure, status, created_at, started_at, stopped_at, plan, plan_hash, plan_changes, epochs, decision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
             ON CONFLICT (name) DO UPDATE SET
                 app = excluded.app,
                 environment = excluded.environment,
                 hypothesis = excluded.hypothesis,
                 salt = excluded.salt,
                 unit = excluded.unit,
                 layer = excluded.layer,
                 layer_share = excluded.layer_share,
                 layer_offset = excluded.layer_offset,
                 arms = excluded.arms,
                 exposure = excluded.exposure,
                 status = excluded.status,
                 created_at = excluded.created_at,
                 started_at = excluded.started_at,
                 stopped_at = excluded.stopped_at,
                 plan = excluded.plan,
                 plan_hash = excluded.plan_hash,
                 plan_changes = excluded.plan_changes,
                 epochs = excluded.epochs,
                 decision = excluded.decision",
        )
        .bind(experiment.name.as_str())
        .bind(experiment.app.as_str())
        .bind(experiment.environment.as_str())
        .bind(&experiment.hypothesis)
        .bind(&experiment.salt)
        .bind(spelling(&experiment.unit)?)
        .bind(&experiment.layer)
        .bind(i64::from(experiment.layer_share))
        .bind(i64::from(experiment.layer_offset))
        .bind(document(&experiment.arms)?)
        .bind(i64::from(experiment.exposure))
        .bind(spelling(&experiment.status)?)
        .bind(experiment.created_at.as_microsecond())
        .bind(experiment.started_at.map(|at| at.as_microsecond()))
        .bind(experiment.stopped_at.map(|at| at.as_microsecond()))
        .bind(document(&experiment.plan)?)
        .bind(experiment.plan_hash.map(|hash| hash.to_string()))
        .bind(document(&experiment.plan_changes)?)
        .bind(document(&experiment.epochs)?)
        .bind(experiment.decision.as_ref().map(document).transpose()?)
        .execute(&mut *self.0)
        .await
        .map_err(failed("saving an experiment"))?;
        Ok(())
    }

    #[tracing::instrument(name = "db.experiments.get", skip_all)]
    async fn get(&mut self, name: &ExperimentName) -> StorageResult<Option<Experiment>> {
        let row = query("SELECT * FROM experiments WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&mut *self.0)
            .await
            .map_err(failed("reading an experiment"))?;
        row.as_ref().map(experiment_from).transpose()
    }

    #[tracing::instrument(name = "db.experiments.running", skip_all)]
    async fn running(&mut self) -> StorageResult<Vec<Experiment>> {
        let rows = query(
            "SELECT * FROM experiments WHERE status = $1 ORDER BY created_at DESC, number DESC",
        )
        .bind(spelling(&ExperimentStatus::Running)?)
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("listing the experiments that run"))?;
        rows.iter().map(experiment_from).collect()
    }

    #[tracing::instrument(name = "db.experiments.list", skip_all)]
    async fn list(&mut self) -> StorageResult<Vec<Experiment>> {
        let rows = query("SELECT * FROM experiments ORDER BY created_at DESC, number DESC")
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("listing experiments"))?;
        rows.iter().map(experiment_from).collect()
    }
}
