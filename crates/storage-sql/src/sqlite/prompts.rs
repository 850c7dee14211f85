//! Prompts and their versions.

use std::collections::HashMap;

use async_trait::async_trait;
use flywheel_core::name::Label;
use flywheel_core::prompt::{EvaluationScore, PromptVersion};
use flywheel_core::{PromptName, PromptVersionId};
use flywheel_storage::prompts::{
    MatchedPart, NewPromptVersion, PromptMatch, PromptRepository, PromptSummary, Registered,
};
use flywheel_storage::{StorageError, StorageResult};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

use super::error::failed;
use super::fields::{Fields, as_in_json, signed};

/// A page of prompts: $1 is the name before it, $2 the text that is sought in lower case, $3 the number of prompts, $4 the
/// text as JSON spells it. With every prompt comes the newest version that has the text in it. Looking for the text in
/// the JSON as a whole is quick and rules most versions out; only the others are taken apart.
const LISTING: &str = "
    SELECT latest.prompt, latest.version, latest.ordinal, latest.created_at,
           matched.version AS matched_version,
           matched.ordinal AS matched_ordinal,
           CASE
               WHEN EXISTS (
                   SELECT 1 FROM prompt_labels AS labels
                   WHERE labels.prompt = matched.prompt
                     AND labels.version = matched.version
                     AND instr(lower(labels.label), $2) > 0) THEN 'label'
               WHEN instr(lower(matched.description), $2) > 0 THEN 'description'
               ELSE 'content'
           END AS matched_part
    FROM prompts
    JOIN prompt_versions AS latest
      ON latest.prompt = prompts.name
     AND latest.ordinal = (SELECT max(ordinal) FROM prompt_versions WHERE prompt = prompts.name)
    LEFT JOIN prompt_versions AS matched
      ON $2 <> ''
     AND matched.number = (
         SELECT number FROM prompt_versions AS versions
         WHERE versions.prompt = prompts.name
           AND (instr(lower(versions.description), $2) > 0
                OR EXISTS (
                    SELECT 1 FROM prompt_labels AS labels
                    WHERE labels.prompt = versions.prompt
                      AND labels.version = versions.version
                      AND instr(lower(labels.label), $2) > 0)
                OR (instr(lower(versions.content), $4) > 0
                    AND EXISTS (
                        SELECT 1 FROM json_tree(versions.content) AS member
                        WHERE member.type = 'text'
                          AND member.key NOT IN ('role', 'type')
                          AND instr(lower(member.atom), $2) > 0)))
         ORDER BY versions.ordinal DESC
         LIMIT 1)
    WHERE prompts.name > $1
      AND ($2 = '' OR instr(lower(prompts.name), $2) > 0 OR matched.number IS NOT NULL)
    ORDER BY prompts.name
    LIMIT $3";

/// The prompts, over one connection.
pub(super) struct Prompts<'c>(pub(super) &'c mut SqliteConnection);

fn version_from(row: &SqliteRow) -> StorageResult<PromptVersion> {
    let fields = Fields::new(row, "prompt_versions", &["prompt", "version"]);
    Ok(PromptVersion {
        prompt: fields.parsed("prompt")?,
        version: fields.parsed("version")?,
        ordinal: fields.count("ordinal")?,
        author: fields.text("author")?,
        description: fields.text("description")?,
        created_at: fields.time("created_at")?,
        labels: Vec::new(),
        content: fields.json("content")?,
    })
}

fn summary_from(row: &SqliteRow) -> StorageResult<PromptSummary> {
    let fields = Fields::new(row, "prompt_versions", &["prompt", "version"]);
    Ok(PromptSummary {
        name: fields.parsed("prompt")?,
        versions: fields.count("ordinal")?,
        latest: fields.parsed("version")?,
        updated_at: fields.time("created_at")?,
        matched: match_from(&fields)?,
    })
}

fn match_from(fields: &Fields<'_>) -> StorageResult<Option<PromptMatch>> {
    let Some(ordinal) = fields.optional_count("matched_ordinal")? else {
        return Ok(None);
    };
    Ok(Some(PromptMatch {
        version: fields.parsed("matched_version")?,
        ordinal,
        part: match fields.text("matched_part")?.as_str() {
            "label" => MatchedPart::Label,
            "description" => MatchedPart::Description,
            _ => MatchedPart::Content,
        },
    }))
}

fn score_from(row: &SqliteRow) -> StorageResult<EvaluationScore> {
    let fields = Fields::new(row, "evaluation_scores", &["number"]);
    Ok(EvaluationScore {
        metric: fields.text("metric")?,
        value: fields.number("value")?,
        n: fields.count("n")?,
        dataset: fields.optional_text("dataset")?,
        recorded_at: fields.time("recorded_at")?,
    })
}

impl Prompts<'_> {
    /// Reads versions from rows of one prompt and puts their labels on them.
    async fn versions(
        &mut self,
        prompt: &PromptName,
        rows: Vec<SqliteRow>,
    ) -> StorageResult<Vec<PromptVersion>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut labels = self.labels(prompt).await?;
        rows.iter()
            .map(|row| {
                let mut version = version_from(row)?;
                version.labels = labels.remove(&version.version).unwrap_or_default();
                Ok(version)
            })
            .collect()
    }

    async fn one_version(
        &mut self,
        prompt: &PromptName,
        row: Option<SqliteRow>,
    ) -> StorageResult<Option<PromptVersion>> {
        Ok(self
            .versions(prompt, row.into_iter().collect())
            .await?
            .pop())
    }

    async fn labels(
        &mut self,
        prompt: &PromptName,
    ) -> StorageResult<HashMap<PromptVersionId, Vec<Label>>> {
        let rows = query("SELECT * FROM prompt_labels WHERE prompt = $1 ORDER BY label")
            .bind(prompt.as_str())
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("reading labels"))?;
        let mut labels: HashMap<_, Vec<_>> = HashMap::new();
        for row in &rows {
            let fields = Fields::new(row, "prompt_labels", &["prompt", "label"]);
            labels
                .entry(fields.parsed("version")?)
                .or_default()
                .push(fields.parsed("label")?);
        }
        Ok(labels)
    }

    async fn insert(&mut self, new: &NewPromptVersion, id: &PromptVersionId) -> StorageResult<()> {
        let created_at = new.created_at.as_microsecond();
        query(
            "INSERT INTO prompts (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        )
        .bind(new.prompt.as_str())
        .bind(created_at)
        .execute(&mut *self.0)
        .await
        .map_err(failed("adding a prompt"))?;
        query(
            "INSERT INTO prompt_versions
                 (prompt, version, ordinal, author, description, content, created_at)
             SELECT $1, $2, coalesce(max(ordinal), 0) + 1, $3, $4, $5, $6
             FROM prompt_versions
             WHERE prompt = $1",
        )
        .bind(new.prompt.as_str())
        .bind(id.to_string())
        .bind(&new.author)
        .bind(&new.description)
        .bind(new.content.to_json().to_string())
        .bind(created_at)
        .execute(&mut *self.0)
        .await
        .map_err(failed("registering a prompt version"))?;
        Ok(())
    }
}

#[async_trait]
impl PromptRepository for Prompts<'_> {
    #[tracing::instrument(name = "db.prompts.register", skip_all)]
    async fn register(&mut self, version: NewPromptVersion) -> StorageResult<Registered> {
        let id = version.content.id();
        if let Some(version) = self.get(&version.prompt, &id).await? {
            return Ok(Registered {
                version,
                created: false,
            });
        }
        self.insert(&version, &id).await?;
        match self.get(&version.prompt, &id).await? {
            Some(version) => Ok(Registered {
                version,
                created: true,
            }),
            None => Err(StorageError::Inconsistent {
                table: "prompt_versions",
                column: "version",
                row: format!("{}/{id}", version.prompt),
                source: None,
            }),
        }
    }

    #[tracing::instrument(name = "db.prompts.get", skip_all)]
    async fn get(
        &mut self,
        prompt: &PromptName,
        version: &PromptVersionId,
    ) -> StorageResult<Option<PromptVersion>> {
        let row = query("SELECT * FROM prompt_versions WHERE prompt = $1 AND version = $2")
            .bind(prompt.as_str())
            .bind(version.to_string())
            .fetch_optional(&mut *self.0)
            .await
            .map_err(failed("reading a prompt version"))?;
        self.one_version(prompt, row).await
    }

    #[tracing::instrument(name = "db.prompts.find_by_prefix", skip_all)]
    async fn find_by_prefix(
        &mut self,
        prompt: &PromptName,
        prefix: &str,
    ) -> StorageResult<Vec<PromptVersion>> {
        // `g` follows every hexadecimal digit.
        let rows = query(
            "SELECT * FROM prompt_versions
             WHERE prompt = $1 AND version >= $2 AND version < $2 || 'g'
             ORDER BY version
             LIMIT 10",
        )
        .bind(prompt.as_str())
        .bind(prefix)
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("finding prompt versions"))?;
        self.versions(prompt, rows).await
    }

    #[tracing::instrument(name = "db.prompts.named", skip_all)]
    async fn named(&mut self, version: &PromptVersionId) -> StorageResult<Vec<(PromptName, u64)>> {
        // One look into the index of each prompt's versions; the rows themselves are wide.
        let rows = query(
            "SELECT prompt, ordinal
             FROM prompts CROSS JOIN prompt_versions ON prompt_versions.prompt = prompts.name
             WHERE prompt_versions.version = $1
             ORDER BY prompt_versions.created_at, prompts.name",
        )
        .bind(version.to_string())
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("finding the prompts of a version"))?;
        rows.iter()
            .map(|row| {
                let fields = Fields::new(row, "prompt_versions", &["prompt", "ordinal"]);
                Ok((fields.parsed("prompt")?, fields.count("ordinal")?))
            })
            .collect()
    }

    #[tracing::instrument(name = "db.prompts.get_by_ordinal", skip_all)]
    async fn get_by_ordinal(
        &mut self,
        prompt: &PromptName,
        ordinal: u64,
    ) -> StorageResult<Option<PromptVersion>> {
        let row = query("SELECT * FROM prompt_versions WHERE prompt = $1 AND ordinal = $2")
            .bind(prompt.as_str())
            .bind(signed(ordinal))
            .fetch_optional(&mut *self.0)
            .await
            .map_err(failed("reading a prompt version"))?;
        self.one_version(prompt, row).await
    }

    #[tracing::instrument(name = "db.prompts.latest", skip_all)]
    async fn latest(&mut self, prompt: &PromptName) -> StorageResult<Option<PromptVersion>> {
        Ok(self.history(prompt, None, 1).await?.pop())
    }

    #[tracing::instrument(name = "db.prompts.list", skip_all)]
    async fn list(
        &mut self,
        text: &str,
        after: Option<&PromptName>,
        limit: u32,
    ) -> StorageResult<Vec<PromptSummary>> {
        let sought = text.to_ascii_lowercase();
        let rows = query(LISTING)
            .bind(after.map_or("", PromptName::as_str))
            .bind(&sought)
            .bind(i64::from(limit))
            .bind(as_in_json(&sought))
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("listing prompts"))?;
        rows.iter().map(summary_from).collect()
    }

    #[tracing::instrument(name = "db.prompts.history", skip_all)]
    async fn history(
        &mut self,
        prompt: &PromptName,
        before: Option<u64>,
        limit: u32,
    ) -> StorageResult<Vec<PromptVersion>> {
        let rows = query(
            "SELECT * FROM prompt_versions
             WHERE prompt = $1 AND ordinal < $2
             ORDER BY ordinal DESC
             LIMIT $3",
        )
        .bind(prompt.as_str())
        .bind(before.map_or(i64::MAX, signed))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("reading a prompt's history"))?;
        self.versions(prompt, rows).await
    }

    #[tracing::instrument(name = "db.prompts.set_label", skip_all)]
    async fn set_label(
        &mut self,
        prompt: &PromptName,
        version: &PromptVersionId,
        label: &Label,
    ) -> StorageResult<()> {
        query(
            "INSERT INTO prompt_labels (prompt, label, version)
             VALUES ($1, $2, $3)
             ON CONFLICT (prompt, label) DO UPDATE SET version = excluded.version",
        )
        .bind(prompt.as_str())
        .bind(label.as_str())
        .bind(version.to_string())
        .execute(&mut *self.0)
        .await
        .map_err(failed("setting a label"))?;
        Ok(())
    }

    #[tracing::instrument(name = "db.prompts.remove_label", skip_all)]
    async fn remove_label(&mut self, prompt: &PromptName, label: &Label) -> StorageResult<bool> {
        let done = query("DELETE FROM prompt_labels WHERE prompt = $1 AND label = $2")
            .bind(prompt.as_str())
            .bind(label.as_str())
            .execute(&mut *self.0)
            .await
            .map_err(failed("removing a label"))?;
        Ok(done.rows_affected() > 0)
    }

    #[tracing::instrument(name = "db.prompts.add_score", skip_all)]
    async fn add_score(
        &mut self,
        prompt: &PromptName,
        version: &PromptVersionId,
        score: &EvaluationScore,
    ) -> StorageResult<()> {
        query(
            "INSERT INTO evaluation_scores
                 (prompt, version, metric, value, n, dataset, recorded_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(prompt.as_str())
        .bind(version.to_string())
        .bind(&score.metric)
        .bind(score.value)
        .bind(signed(score.n))
        .bind(&score.dataset)
        .bind(score.recorded_at.as_microsecond())
        .execute(&mut *self.0)
        .await
        .map_err(failed("adding a score"))?;
        Ok(())
    }

    #[tracing::instrument(name = "db.prompts.scores", skip_all)]
    async fn scores(
        &mut self,
        prompt: &PromptName,
        version: &PromptVersionId,
    ) -> StorageResult<Vec<EvaluationScore>> {
        let rows = query(
            "SELECT * FROM evaluation_scores
             WHERE prompt = $1 AND version = $2
             ORDER BY recorded_at DESC, number DESC",
        )
        .bind(prompt.as_str())
        .bind(version.to_string())
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("reading scores"))?;
        rows.iter().map(score_from).collect()
    }
}
