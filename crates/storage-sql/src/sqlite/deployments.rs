//! Apps, manifests and deployments.

use async_trait::async_trait;
use flywheel_core::deployment::{App, Deployment};
use flywheel_core::name::EnvironmentName;
use flywheel_core::{AppName, Manifest, ManifestId, PromptName, PromptVersionId};
use flywheel_storage::deployments::{DeploymentRepository, NewDeployment, PromptUse};
use flywheel_storage::{StorageError, StorageResult};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

use super::error::failed;
use super::fields::{Fields, document, signed};

/// Apps, manifests and deployments, over one connection.
pub(super) struct Deployments<'c>(pub(super) &'c mut SqliteConnection);

fn app_from(row: &SqliteRow) -> StorageResult<App> {
    let fields = Fields::new(row, "apps", &["name"]);
    Ok(App {
        name: fields.parsed("name")?,
        settings: fields.json("settings")?,
        created_at: fields.time("created_at")?,
    })
}

fn manifest_from(row: &SqliteRow) -> StorageResult<Manifest> {
    let fields = Fields::new(row, "manifests", &["id"]);
    let manifest = Manifest {
        model_id: fields.parsed("model_id")?,
        model_version: fields.parsed("model_version")?,
        prompt_id: fields.parsed("prompt_id")?,
        prompt_version: fields.parsed("prompt_version")?,
        retriever_index_version: fields.optional_parsed("retriever_index_version")?,
        guards_version: fields.optional_parsed("guards_version")?,
    };
    if manifest.id() != fields.parsed::<ManifestId>("id")? {
        return Err(fields.inconsistent("id", None));
    }
    Ok(manifest)
}

fn deployment_from(row: &SqliteRow) -> StorageResult<Deployment> {
    let fields = Fields::new(row, "deployments", &["number"]);
    Ok(Deployment {
        number: fields.count("number")?,
        app: fields.parsed("app")?,
        environment: fields.parsed("environment")?,
        manifest: fields.parsed("manifest")?,
        previous_manifest: fields.optional_parsed("previous_manifest")?,
        kind: fields.spelled("kind")?,
        actor: fields.text("actor")?,
        reason: fields.text("reason")?,
        created_at: fields.time("created_at")?,
        forced_over: fields.optional_json("forced_over")?.unwrap_or_default(),
    })
}

fn use_from(row: &SqliteRow) -> StorageResult<PromptUse> {
    let fields = Fields::new(row, "deployments", &["number"]);
    Ok(PromptUse {
        app: fields.parsed("app")?,
        environment: fields.parsed("environment")?,
        manifest: fields.parsed("manifest")?,
        prompt_version: fields.parsed("prompt_version")?,
        current: fields.flag("is_current")?,
        deployed_at: fields.time("created_at")?,
    })
}

#[async_trait]
impl DeploymentRepository for Deployments<'_> {
    #[tracing::instrument(name = "db.apps.put", skip_all)]
    async fn put_app(&mut self, app: &App) -> StorageResult<()> {
        query(
            "INSERT INTO apps (name, settings, created_at)
             VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET settings = excluded.settings",
        )
        .bind(app.name.as_str())
        .bind(document(&app.settings)?)
        .bind(app.created_at.as_microsecond())
        .execute(&mut *self.0)
        .await
        .map_err(failed("saving an app"))?;
        Ok(())
    }

    #[tracing::instrument(name = "db.apps.get", skip_all)]
    async fn get_app(&mut self, app: &AppName) -> StorageResult<Option<App>> {
        let row = query("SELECT * FROM apps WHERE name = $1")
            .bind(app.as_str())
            .fetch_optional(&mut *self.0)
            .await
            .map_err(failed("reading an app"))?;
        row.as_ref().map(app_from).transpose()
    }

    #[tracing::instrument(name = "db.apps.list", skip_all)]
    async fn list_apps(&mut self) -> StorageResult<Vec<App>> {
        let rows = query("SELECT * FROM apps ORDER BY name")
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("listing apps"))?;
        rows.iter().map(app_from).collect()
    }

    #[tracing::instrument(name = "db.manifests.put", skip_all)]
    async fn put_manifest(&mut self, manifest: &Manifest, at: Timestamp) -> StorageResult<()> {
        query(
            "INSERT INTO manifests
                 (id, model_id, model_version, prompt_id, prompt_version,
                  retriever_index_version, guards_version, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(manifest.id().to_string())
        .bind(manifest.model_id.as_str())
        .bind(manifest.model_version.as_str())
        .bind(manifest.prompt_id.as_str())
        .bind(manifest.prompt_version.to_string())
        .bind(
            manifest
                .retriever_index_version
                .as_ref()
                .map(|version| version.as_str().to_owned()),
        )
        .bind(
            manifest
                .guards_version
                .as_ref()
                .map(|version| version.as_str().to_owned()),
        )
        .bind(at.as_microsecond())
        .execute(&mut *self.0)
        .await
        .map_err(failed("saving a manifest"))?;
        Ok(())
    }

    #[tracing::instrument(name = "db.manifests.get", skip_all)]
    async fn get_manifest(&mut self, id: &ManifestId) -> StorageResult<Option<Manifest>> {
        let row = query("SELECT * FROM manifests WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *self.0)
            .await
            .map_err(failed("reading a manifest"))?;
        row.as_ref().map(manifest_from).transpose()
    }

    #[tracing::instrument(name = "db.manifests.find", skip_all)]
    async fn find_manifests(&mut self, prefix: &str) -> StorageResult<Vec<Manifest>> {
        // `g` follows every hexadecimal digit.
        let rows = query(
            "SELECT * FROM manifests
             WHERE id >= $1 AND id < $1 || 'g'
             ORDER BY id
             LIMIT 10",
        )
        .bind(prefix)
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("finding manifests"))?;
        rows.iter().map(manifest_from).collect()
    }

    #[tracing::instrument(name = "db.deployments.append", skip_all)]
    async fn append(&mut self, deployment: NewDeployment) -> StorageResult<Deployment> {
        let forced_over = match deployment.forced_over.as_slice() {
            [] => None,
            objections => Some(document(&objections)?),
        };
        let row = query(
            "INSERT INTO deployments
                 (number, app, environment, manifest, previous_manifest, kind, actor, reason,
                  created_at, forced_over)
             SELECT coalesce(max(number), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9
             FROM deployments
             RETURNING *",
        )
        .bind(deployment.app.as_str())
        .bind(deployment.environment.as_str())
        .bind(deployment.manifest.to_string())
        .bind(
            deployment
                .previous_manifest
                .map(|manifest| manifest.to_string()),
        )
        .bind(deployment.kind.as_str())
        .bind(&deployment.actor)
        .bind(&deployment.reason)
        .bind(deployment.created_at.as_microsecond())
        .bind(forced_over)
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("appending a deployment"))?;
        match row.first() {
            Some(row) => deployment_from(row),
            None => Err(StorageError::Inconsistent {
                table: "deployments",
                column: "number",
                row: "new".to_owned(),
                source: None,
            }),
        }
    }

    #[tracing::instrument(name = "db.deployments.current", skip_all)]
    async fn current(
        &mut self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> StorageResult<Option<Deployment>> {
        Ok(self.history(app, Some(environment), None, 1).await?.pop())
    }

    #[tracing::instrument(name = "db.deployments.all_current", skip_all)]
    async fn all_current(&mut self) -> StorageResult<Vec<Deployment>> {
        let rows = query(
            "SELECT * FROM deployments
             WHERE number IN (SELECT max(number) FROM deployments GROUP BY app, environment)
             ORDER BY app, environment",
        )
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("reading current deployments"))?;
        rows.iter().map(deployment_from).collect()
    }

    #[tracing::instrument(name = "db.deployments.history", skip_all)]
    async fn history(
        &mut self,
        app: &AppName,
        environment: Option<&EnvironmentName>,
        before: Option<u64>,
        limit: u32,
    ) -> StorageResult<Vec<Deployment>> {
        let rows = query(
            "SELECT * FROM deployments
             WHERE app = $1 AND ($2 IS NULL OR environment = $2) AND number < $3
             ORDER BY number DESC
             LIMIT $4",
        )
        .bind(app.as_str())
        .bind(environment.map(|environment| environment.as_str().to_owned()))
        .bind(before.map_or(i64::MAX, signed))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("reading deployments"))?;
        rows.iter().map(deployment_from).collect()
    }

    #[tracing::instrument(name = "db.deployments.uses_of_prompt", skip_all)]
    async fn uses_of_prompt(
        &mut self,
        prompt: &PromptName,
        version: Option<&PromptVersionId>,
    ) -> StorageResult<Vec<PromptUse>> {
        let rows = query(
            "SELECT deployments.*, manifests.prompt_version,
                    deployments.number = (
                        SELECT max(newest.number) FROM deployments AS newest
                        WHERE newest.app = deployments.app
                          AND newest.environment = deployments.environment
                    ) AS is_current
             FROM deployments
             JOIN manifests ON manifests.id = deployments.manifest
             WHERE deployments.number IN (
                 SELECT max(placed.number) FROM deployments AS placed
                 WHERE placed.manifest IN (
                     SELECT id FROM manifests
                     WHERE prompt_id = $1 AND ($2 IS NULL OR prompt_version = $2))
                 GROUP BY placed.app, placed.environment, placed.manifest)
             ORDER BY deployments.number DESC",
        )
        .bind(prompt.as_str())
        .bind(version.map(ToString::to_string))
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("finding where a prompt is deployed"))?;
        rows.iter().map(use_from).collect()
    }
}
