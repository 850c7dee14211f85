//! What was typed into the form of a new experiment, and the experiment that it asks for.

use std::collections::BTreeMap;
use std::str::FromStr;

use flywheel_core::deployment::AppSettings;
use flywheel_core::experiment::UnitKind;
use flywheel_core::metric::{Metric, MetricKind};
use flywheel_core::name::MetricName;
use flywheel_core::plan::{Effect, Guardrail, ReadingMode};
use serde::Deserialize;

use crate::operations::experiments::{NewArm, NewExperiment};
use crate::operations::planning::NewPlan;
use crate::problem::{ApiResult, Problem};

/// Arms and guardrails that a form can have.
pub(super) const MOST_ROWS: usize = 20;

/// What is typed for an arm that follows its environment.
const FOLLOWING: &str = "environment";

/// The name of an experiment that is only planned.
const UNNAMED: &str = "unnamed";

/// Every field of the form, as it was typed: arms and guardrails as `arm.0.name`, `guardrail.0.metric`.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(in crate::console) struct Typed(BTreeMap<String, String>);

impl Typed {
    /// What stands in a field.
    pub(in crate::console) fn get(&self, field: &str) -> &str {
        self.0.get(field).map_or("", |text| text.trim())
    }

    /// A field, unless nothing stands in it.
    fn given(&self, field: &str) -> Option<&str> {
        Some(self.get(field)).filter(|text| !text.is_empty())
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    pub(in crate::console) fn put(&mut self, field: &str, text: impl Into<String>) {
        self.0.insert(field.to_owned(), text.into());
    }

    /// Puts a value where the form has no such field yet.
    pub(super) fn default_to(&mut self, field: &str, text: &str) {
        self.0
            .entry(field.to_owned())
            .or_insert_with(|| text.to_owned());
    }

    /// How many rows of a kind the form has.
    pub(in crate::console) fn rows(&self, kind: &str, member: &str) -> usize {
        let has = |row: &usize| self.has(&format!("{kind}.{row}.{member}"));
        (0..MOST_ROWS).take_while(has).count()
    }

    /// The experiment that this asks for, of an app with these settings.
    pub(super) fn experiment(
        &self,
        settings: &AppSettings,
        is_dry_run: bool,
    ) -> ApiResult<NewExperiment> {
        let name = self.given("name").or(is_dry_run.then_some(UNNAMED));
        let metrics = settings.metrics();
        Ok(NewExperiment {
            name: parsed(name.unwrap_or_default())?,
            app: parsed(self.get("app"))?,
            environment: self.given("environment").map(parsed).transpose()?,
            hypothesis: self.get("hypothesis").to_owned(),
            unit: unit(self.get("unit")),
            layer: self.given("layer").map(str::to_owned),
            layer_share: self.share("layer_share", "the share of the layer")?,
            exposure: self.share("exposure", "the share that takes part")?,
            arms: self.arms()?,
            plan: self.plan(&metrics)?,
            dry_run: is_dry_run,
        })
    }

    fn arms(&self) -> ApiResult<Vec<NewArm>> {
        let mut arms = Vec::new();
        for row in 0..self.rows("arm", "name") {
            let field = |member: &str| format!("arm.{row}.{member}");
            let (name, serves) = (self.get(&field("name")), self.get(&field("serves")));
            if name.is_empty() && serves.is_empty() {
                continue;
            }
            if serves.is_empty() {
                return Err(Problem::invalid(format!(
                    "say what arm `{name}` serves: a prompt with its version, such as `support/summary@2`, or `{FOLLOWING}`"
                )));
            }
            let follows_environment = serves == FOLLOWING;
            let (prompt, version, manifest) = match serves.rsplit_once('@') {
                _ if follows_environment => (None, None, None),
                Some((prompt, version)) => (Some(parsed(prompt)?), Some(version.to_owned()), None),
                None if is_manifest(serves) => (None, None, Some(serves.to_owned())),
                None => (Some(parsed(serves)?), None, None),
            };
            let weight = self.percent(&field("weight"), &format!("the weight of arm `{name}`"))?;
            arms.push(NewArm {
                name: parsed(name)?,
                manifest,
                prompt,
                version,
                follows_environment,
                weight: weight.unwrap_or(0),
            });
        }
        Ok(arms)
    }

    fn plan(&self, metrics: &[Metric]) -> ApiResult<NewPlan> {
        let primary: Option<MetricName> = self.given("primary").map(parsed).transpose()?;
        let mde = self.effect(
            "mde",
            "the smallest effect that matters",
            primary.as_ref(),
            metrics,
        )?;
        let guardrails = self.guardrails(metrics)?;
        let share = |field: &str, what: &str| -> ApiResult<Option<f64>> {
            Ok(self.number(field, what)?.map(|percent| percent / 100.0))
        };
        let segments = self.get("segments").split(',').map(str::trim);
        Ok(NewPlan {
            // Without a primary metric there is nothing that the effect could be an effect on.
            mde: mde.filter(|_| primary.is_some()),
            primary,
            guardrails: Some(guardrails),
            mode: mode(self.get("mode")),
            alpha: share("alpha", "α")?,
            power: share("power", "the power")?,
            minimum_days: self.days()?,
            segments: segments
                .filter(|tag| !tag.is_empty())
                .map(str::to_owned)
                .collect(),
            aa: self.has("aa"),
            covariate: self.has("covariate"),
            control: None,
        })
    }

    /// The guardrails.
    pub(in crate::console) fn guardrails(&self, metrics: &[Metric]) -> ApiResult<Vec<Guardrail>> {
        let mut guardrails = Vec::new();
        for row in 0..self.rows("guardrail", "metric") {
            let Some(metric) = self.given(&format!("guardrail.{row}.metric")) else {
                continue;
            };
            let metric: MetricName = parsed(metric)?;
            let what = format!("the margin of `{metric}`");
            let margin = self.effect(
                &format!("guardrail.{row}.margin"),
                &what,
                Some(&metric),
                metrics,
            )?;
            let margin = margin.ok_or_else(|| {
                Problem::invalid(format!(
                    "{what} is missing: by how much may it become worse?"
                ))
            })?;
            guardrails.push(Guardrail { metric, margin });
        }
        Ok(guardrails)
    }

    /// Full days before a verdict can ship.
    pub(in crate::console) fn days(&self) -> ApiResult<Option<u32>> {
        let days = self.number("minimum_days", "the number of days")?;
        Ok(days.map(|days| days.clamp(0.0, 3650.0).round() as u32))
    }

    /// A share in per cent, in basis points.
    pub(in crate::console) fn percent(&self, field: &str, what: &str) -> ApiResult<Option<u32>> {
        let percent = self.number(field, what)?;
        match percent {
            Some(percent) if !(0.0..=100.0).contains(&percent) => Err(Problem::invalid(format!(
                "{what} must lie between 0 and 100 per cent, not `{percent}`"
            ))),
            percent => Ok(percent.map(|percent| (percent * 100.0).round() as u32)),
        }
    }

    /// The same, all where nothing is typed.
    fn share(&self, field: &str, what: &str) -> ApiResult<u32> {
        Ok(self.percent(field, what)?.unwrap_or(10_000))
    }

    /// An effect: a number, and in the field beside it whether it is a share of the control's value. Shares are typed in
    /// points.
    pub(in crate::console) fn effect(
        &self,
        field: &str,
        what: &str,
        metric: Option<&MetricName>,
        metrics: &[Metric],
    ) -> ApiResult<Option<Effect>> {
        let Some(number) = self.number(field, what)? else {
            return Ok(None);
        };
        if self.get(&format!("{field}_kind")) == "relative" {
            return Ok(Some(Effect::Relative(number / 100.0)));
        }
        let found = metrics.iter().find(|known| Some(&known.name) == metric);
        let is_share = found.is_some_and(|metric| metric.kind == MetricKind::Binary);
        Ok(Some(Effect::Absolute(if is_share {
            number / 100.0
        } else {
            number
        })))
    }

    fn number(&self, field: &str, what: &str) -> ApiResult<Option<f64>> {
        let Some(text) = self.given(field) else {
            return Ok(None);
        };
        let digits = text.trim_end_matches('%').trim();
        match digits.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(Problem::invalid(format!(
                "{what} must be a number, not `{text}`"
            ))),
        }
    }
}

fn parsed<T: FromStr>(text: &str) -> ApiResult<T>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| Problem::invalid(error.to_string()))
}

/// Whether this is the beginning of a manifest's id and not the name of a prompt.
fn is_manifest(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What is randomised, by its name in the form and what it says there.
pub(in crate::console) const UNITS: [(&str, &str, UnitKind); 3] = [
    ("user", "users", UnitKind::User),
    ("session", "sessions", UnitKind::Session),
    ("request", "requests, each for itself", UnitKind::Request),
];

fn unit(name: &str) -> UnitKind {
    let found = UNITS.iter().find(|(known, ..)| *known == name);
    found.map_or(UnitKind::default(), |(.., unit)| *unit)
}

/// The modes by their names in the form.
pub(super) const MODES: [(&str, ReadingMode); 4] = [
    ("anytime", ReadingMode::Anytime),
    ("planned", ReadingMode::Planned),
    ("hybrid", ReadingMode::Hybrid),
    ("fixed", ReadingMode::Fixed),
];

fn mode(name: &str) -> ReadingMode {
    let found = MODES.iter().find(|(known, _)| *known == name);
    found.map_or(ReadingMode::default(), |(_, mode)| *mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(fields: &[(&str, &str)]) -> Typed {
        let mut typed = Typed::default();
        for (field, text) in [
            ("app", "support"),
            ("arm.0.name", "a"),
            ("arm.0.serves", "support/summary@2"),
            ("arm.0.weight", "50"),
            ("arm.1.name", "b"),
            ("arm.1.serves", "0123456789ab"),
            ("arm.1.weight", "50 %"),
            ("primary", "task_completed"),
            ("mde", "5"),
            ("mde_kind", "absolute"),
        ]
        .iter()
        .chain(fields)
        {
            typed.put(field, *text);
        }
        typed
    }

    #[test]
    fn points_and_percent_are_told_apart() {
        let settings = AppSettings::default();
        let asked = typed(&[
            ("guardrail.0.metric", "latency_p95"),
            ("guardrail.0.margin", "10"),
            ("guardrail.0.margin_kind", "relative"),
            ("guardrail.1.metric", ""),
        ]);
        let found = asked.experiment(&settings, true).unwrap();
        assert_eq!(found.plan.mde, Some(Effect::Absolute(0.05)));
        assert_eq!(
            found.plan.guardrails.unwrap()[0].margin,
            Effect::Relative(0.1)
        );
        assert_eq!((found.arms[0].weight, found.arms[1].weight), (5000, 5000));
        assert_eq!(found.arms[0].version.as_deref(), Some("2"));
        assert_eq!(found.arms[1].manifest.as_deref(), Some("0123456789ab"));
        assert_eq!((found.exposure, found.layer_share), (10_000, 10_000));
        let part = typed(&[
            ("unit", "session"),
            ("exposure", "50"),
            ("layer_share", "12.5"),
            ("segments", "language, , tier"),
            ("arm.0.serves", "environment"),
        ]);
        let found = part.experiment(&settings, true).unwrap();
        assert_eq!((found.exposure, found.layer_share), (5000, 1250));
        assert_eq!(found.unit, UnitKind::Session);
        assert_eq!(found.plan.segments, ["language", "tier"]);
        assert!(found.arms[0].follows_environment);
        let relative = typed(&[("mde_kind", "relative")]);
        let found = relative.experiment(&settings, true).unwrap();
        assert_eq!(found.plan.mde, Some(Effect::Relative(0.05)));
        let graded = typed(&[("primary", "rating"), ("mde", "0.2")]);
        let found = graded.experiment(&settings, true).unwrap();
        assert_eq!(found.plan.mde, Some(Effect::Absolute(0.2)));
    }

    #[test]
    fn what_is_no_number_is_named() {
        let settings = AppSettings::default();
        for (field, text, says) in [
            (
                "mde",
                "five",
                "the smallest effect that matters must be a number, not `five`",
            ),
            (
                "arm.1.weight",
                "half",
                "the weight of arm `b` must be a number",
            ),
            ("arm.0.serves", "", "say what arm `a` serves"),
            (
                "exposure",
                "150",
                "the share that takes part must lie between 0 and 100",
            ),
            ("alpha", "NaN", "α must be a number"),
        ] {
            let problem = typed(&[(field, text)])
                .experiment(&settings, true)
                .unwrap_err();
            assert!(problem.detail().contains(says), "{}", problem.detail());
        }
        let problem = typed(&[]).experiment(&settings, false).unwrap_err();
        assert!(
            problem.detail().contains("experiment ``"),
            "{}",
            problem.detail()
        );
    }
}
