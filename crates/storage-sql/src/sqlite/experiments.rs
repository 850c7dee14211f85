//! Experiments.

use async_trait::async_trait;
use flywheel_core::experiment::Experiment;
use flywheel_core::name::ExperimentName;
use flywheel_storage::StorageResult;
use flywheel_storage::experiments::ExperimentRepository;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

use super::error::failed;
use super::fields::{Fields, document, spelling};

/// The experiments, over one connection.
pub(super) struct Experiments<'c>(pub(super) &'c mut SqliteConnection);

fn experiment_from(row: &SqliteRow) -> StorageResult<Experiment> {
    let fields = Fields::new(row, "experiments", &["name"]);
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
        arms: fields.json("arms")?,
        exposure: fields.small_count("exposure")?,
        status: fields.spelled("status")?,
        created_at: fields.time("created_at")?,
        started_at: fields.optional_time("started_at")?,
        stopped_at: fields.optional_time("stopped_at")?,
    })
}

#[async_trait]
impl ExperimentRepository for Experiments<'_> {
    #[tracing::instrument(name = "db.experiments.put", skip_all)]
    async fn put(&mut self, experiment: &Experiment) -> StorageResult<()> {
        query(
            "INSERT INTO experiments
                 (name, app, environment, hypothesis, salt, unit, layer, layer_share, layer_offset,
                  arms, exposure, status, created_at, started_at, stopped_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
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
                 stopped_at = excluded.stopped_at",
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

    #[tracing::instrument(name = "db.experiments.list", skip_all)]
    async fn list(&mut self) -> StorageResult<Vec<Experiment>> {
        let rows = query("SELECT * FROM experiments ORDER BY created_at DESC, number DESC")
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("listing experiments"))?;
        rows.iter().map(experiment_from).collect()
    }
}
