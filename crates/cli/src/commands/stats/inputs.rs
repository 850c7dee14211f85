//! Numbers as people type them: shares, effects, counts, summaries and CSV files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use flywheel_stats::planning::proportions::DetectableEffect;

/// `60%` or `0.6`.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    share
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "expected a share, such as `60%` or `0.6`".to_owned())
}

/// A share that is neither none nor all, such as a level or a power.
pub(super) fn parse_open_share(text: &str) -> Result<f64, String> {
    let share = parse_share(text)?;
    match share > 0.0 && share < 1.0 {
        true => Ok(share),
        false => Err("expected a share between 0 and 100%, and neither".to_owned()),
    }
}

/// `5pt`, points of a rate, or `5%` of it. "5% on 60%" is 65% to some and 63% to others, so a bare number is refused.
pub(super) fn parse_effect(text: &str) -> Result<Effect, String> {
    let number = |text: &str| {
        text.trim()
            .parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
    };
    if let Some(value) = text.strip_suffix("pt").and_then(number) {
        return Ok(Effect(DetectableEffect::Absolute(value / 100.0)));
    }
    if let Some(value) = text.strip_suffix('%').and_then(number) {
        return Ok(Effect(DetectableEffect::Relative(value / 100.0)));
    }
    Err("say points or percent: `5pt` on 60% is 65%, `5%` on 60% is 63%".to_owned())
}

/// The smallest difference worth detecting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect(pub(super) DetectableEffect);

/// `840/1400`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) successes: u64,
    pub(super) n: u64,
}

pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    let parts = text.split_once('/').and_then(|(successes, n)| {
        Some(Rate {
            successes: successes.trim().parse().ok()?,
            n: n.trim().parse().ok()?,
        })
    });
    parts
        .filter(|rate| rate.successes <= rate.n && rate.n > 0)
        .ok_or_else(|| "expected successes of users, such as `840/1400`".to_owned())
}

/// `1400,12.3,4.5`: n, mean and standard deviation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    pub(super) n: u64,
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

pub(super) fn parse_summary(text: &str) -> Result<Summary, String> {
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    let summary = match parts.as_slice() {
        [n, mean, deviation] => n
            .parse()
            .ok()
            .zip(mean.parse().ok())
            .zip(deviation.parse().ok()),
        _ => None,
    };
    summary
        .map(|((n, mean), deviation)| Summary { n, mean, deviation })
        .filter(|summary| {
            summary.mean.is_finite() && summary.deviation.is_finite() && summary.deviation >= 0.0
        })
        .ok_or_else(|| {
            "expected users, mean and standard deviation, such as `1400,12.3,4.5`".to_owned()
        })
}

/// `6,12,24,36,22`.
#[derive(Debug, Clone)]
pub(super) struct Counts(pub(super) Vec<u64>);

pub(super) fn parse_counts(text: &str) -> Result<Counts, String> {
    let counts: Option<Vec<u64>> = text
        .split(',')
        .map(|part| part.trim().parse().ok())
        .collect();
    counts
        .filter(|counts| counts.len() > 1)
        .map(Counts)
        .ok_or_else(|| "expected counts between commas, such as `6,12,24,36,22`".to_owned())
}

/// What a CSV file says of two arms: the values of the named columns, by arm and by user.
pub(super) struct Arms {
    /// The arms' names, the control first: the one that the file names first.
    pub(super) names: [String; 2],
    /// For each arm, the sums of the columns by user.
    pub(super) users: [Vec<Vec<f64>>; 2],
}

/// Reads `columns` of a CSV file with a header, summed up by user where there is a column `user`.
pub(super) fn read_arms(path: &Path, columns: &[&str]) -> Result<Arms> {
    let shown = path.display();
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .with_context(|| format!("`{shown}` cannot be read"))?;
    let header = reader
        .headers()
        .with_context(|| format!("`{shown}` has no header"))?
        .clone();
    let place = |name: &str| header.iter().position(|column| column == name);
    let must_have = |name: &str| {
        place(name).with_context(|| {
            let there: Vec<_> = header.iter().map(|column| format!("`{column}`")).collect();
            format!(
                "`{shown}` has no column `{name}`; it has {}",
                there.join(", ")
            )
        })
    };
    let arm_place = must_have("arm")?;
    let places = columns
        .iter()
        .map(|name| must_have(name))
        .collect::<Result<Vec<_>>>()?;
    let user_place = place("user");
    let mut names: Vec<String> = Vec::new();
    let mut users: BTreeMap<(usize, String), Vec<f64>> = BTreeMap::new();
    for (index, record) in reader.records().enumerate() {
        let line = index + 2;
        let record = record.with_context(|| format!("`{shown}`, line {line}"))?;
        let field = |place: usize| record.get(place).unwrap_or_default();
        let name = field(arm_place);
        let arm = match names.iter().position(|known| known == name) {
            Some(arm) => arm,
            None => {
                names.push(name.to_owned());
                names.len() - 1
            }
        };
        if arm > 1 {
            bail!("`{shown}`, line {line}: `{name}` is a third arm; compare two at a time");
        }
        // Without users, each line is one.
        let user =
            user_place.map_or_else(|| format!("{line:012}"), |place| field(place).to_owned());
        let sums = users
            .entry((arm, user))
            .or_insert_with(|| vec![0.0; columns.len()]);
        for ((sum, place), column) in sums.iter_mut().zip(&places).zip(columns) {
            let text = field(*place);
            let value: f64 = text
                .parse()
                .ok()
                .filter(|value: &f64| value.is_finite())
                .with_context(|| {
                    format!("`{shown}`, line {line}: `{column}` is `{text}`, which is no number")
                })?;
            *sum += value;
        }
    }
    let [control, treatment] = names.as_slice() else {
        bail!(
            "`{shown}` must have two arms in its column `arm`, and has {}",
            names.len()
        );
    };
    let of = |arm: usize| {
        let rows = users.iter().filter(|((own, _), _)| *own == arm);
        rows.map(|(_, sums)| sums.clone()).collect()
    };
    Ok(Arms {
        names: [control.clone(), treatment.clone()],
        users: [of(0), of(1)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_or_refused() {
        assert_eq!(parse_share("60%"), Ok(0.6));
        assert_eq!(parse_share("0.6"), Ok(0.6));
        assert!(parse_share("60").is_err());
        assert_eq!(parse_open_share("5%"), Ok(0.05));
        assert!(parse_open_share("0").is_err() && parse_open_share("100%").is_err());
        assert!(parse_effect("5").unwrap_err().contains("points or percent"));
        assert!(
            matches!(parse_effect("5pt"), Ok(Effect(DetectableEffect::Absolute(points))) if points == 0.05)
        );
        assert!(
            matches!(parse_effect("-5%"), Ok(Effect(DetectableEffect::Relative(share))) if share == -0.05)
        );
        assert!(parse_effect("NaN%").is_err());
        assert!(parse_rate("5/4").is_err());
        assert!(parse_rate("0/0").is_err());
        assert!(parse_summary("10,nan,1").is_err());
        assert!(parse_counts("1,x").is_err());
    }

    #[test]
    fn files_are_summed_up_by_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.csv");
        std::fs::write(&path, "arm,user,cost\na,u1,1\na,u1,2\nb,u2,5\na,u3,1\n").unwrap();
        let arms = read_arms(&path, &["cost"]).unwrap();
        assert_eq!(arms.names, ["a", "b"]);
        assert_eq!(arms.users[0], [[3.0], [1.0]]);
        for (text, expected) in [
            ("user,cost\n", "has no column `arm`; it has `user`, `cost`"),
            (
                "arm,cost\na,1\nb,x\n",
                "line 3: `cost` is `x`, which is no number",
            ),
            ("arm,cost\na,1\n", "must have two arms"),
            ("arm,cost\na,1\nb,1\nc,1\n", "line 4: `c` is a third arm"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read_arms(&path, &["cost"]).err().unwrap();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
