//! Vectors of tests and intervals at a fixed sample.

use flywheel_stats::accumulate::Moments;
use flywheel_stats::estimate::Estimate;
use flywheel_stats::inference::{self, Inference, Mode};
use flywheel_stats::multiplicity;
use flywheel_stats::paired::PairedCounts;
use flywheel_stats::quantile::{self, QuantileInterval};
use flywheel_stats::rank::{RankMethod, RankedCounts};
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{cuped, means, proportion, ratio, srm, two_proportions};

use super::Function;
use super::answer::Answer;
use super::inputs::{Failure, Inputs};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("chi_squared", chi_squared),
    ("fisher_exact", fisher_exact),
    ("wilson_interval", wilson_interval),
    ("clopper_pearson_interval", clopper_pearson_interval),
    ("newcombe_difference", newcombe_difference),
    (
        "miettinen_nurminen_difference",
        miettinen_nurminen_difference,
    ),
    (
        "noninferiority_two_proportions",
        noninferiority_two_proportions,
    ),
    ("welch_t", welch_t),
    ("welch_t_from_stats", welch_t_from_stats),
    ("mann_whitney", mann_whitney),
    ("brunner_munzel", brunner_munzel),
    ("sign_test", sign_test),
    ("net_win_interval", net_win_interval),
    ("quantile_interval", quantile_interval),
    ("quantile_difference_outer_ci", quantile_difference_outer_ci),
    ("quantile_difference_mover", quantile_difference_mover),
    ("ratio_metric", ratio_metric),
    ("relative_lift", relative_lift),
    ("cuped", cuped_difference),
    ("srm_chi_squared", srm_chi_squared),
    ("holm", holm),
    ("benjamini_hochberg", benjamini_hochberg),
    ("e_bh", e_bh),
];

type Answered = Result<Answer, Failure>;

fn chi_squared(inputs: &Inputs<'_>) -> Answered {
    let table = inputs.table("table")?;
    let found = two_proportions::chi_squared(&table, inputs.flag("continuity", false))?;
    Ok(Answer::default()
        .number("chi2", found.statistic)
        .number("df", found.degrees_of_freedom as f64)
        .number("p", found.p))
}

fn fisher_exact(inputs: &Inputs<'_>) -> Answered {
    let [top, bottom] = &inputs.table("table")?[..] else {
        return Err(Undefined::Domain("Fisher's test takes a 2×2 table").into());
    };
    let ([a, b], [c, d]) = (&top[..], &bottom[..]) else {
        return Err(Undefined::Domain("Fisher's test takes a 2×2 table").into());
    };
    let found = two_proportions::fisher_exact([[*a, *b], [*c, *d]]);
    Ok(Answer::default().defined("p", found))
}

fn wilson_interval(inputs: &Inputs<'_>) -> Answered {
    let (successes, n) = (inputs.count("successes")?, inputs.count("n")?);
    let found = proportion::wilson_interval(successes, n, inputs.alpha()?);
    Ok(Answer::default().interval(found))
}

fn clopper_pearson_interval(inputs: &Inputs<'_>) -> Answered {
    let (successes, n) = (inputs.count("successes")?, inputs.count("n")?);
    let found = proportion::clopper_pearson_interval(successes, n, inputs.alpha()?);
    Ok(Answer::default().interval(found))
}

fn newcombe_difference(inputs: &Inputs<'_>) -> Answered {
    let (a, b) = (inputs.proportion("a")?, inputs.proportion("b")?);
    let found = two_proportions::newcombe_interval(a, b, inputs.alpha()?);
    Ok(Answer::default()
        .number("diff", b.share() - a.share())
        .interval(found))
}

fn miettinen_nurminen_difference(inputs: &Inputs<'_>) -> Answered {
    let (a, b) = (inputs.proportion("a")?, inputs.proportion("b")?);
    let found = two_proportions::miettinen_nurminen_interval(a, b, inputs.alpha()?);
    Ok(Answer::default()
        .number("diff", b.share() - a.share())
        .interval(found))
}

fn noninferiority_two_proportions(inputs: &Inputs<'_>) -> Answered {
    let (a, b) = (inputs.proportion("a")?, inputs.proportion("b")?);
    let found = two_proportions::noninferiority(a, b, inputs.number("margin")?)?;
    Ok(Answer::default().number("z", found.z).number("p", found.p))
}

fn welch_t(inputs: &Inputs<'_>) -> Answered {
    let a = Moments::of(&inputs.numbers("a")?);
    let b = Moments::of(&inputs.numbers("b")?);
    welch(&a, &b, inputs.alpha()?)
}

fn welch_t_from_stats(inputs: &Inputs<'_>) -> Answered {
    let (a, b) = (inputs.moments("a")?, inputs.moments("b")?);
    welch(&a, &b, inputs.alpha()?)
}

fn welch(a: &Moments, b: &Moments, alpha: f64) -> Answered {
    let difference = b.mean().and_then(|b| Ok(b - a.mean()?));
    let estimate = means::difference(a, b);
    let ratio = estimate.map(|estimate| estimate.value / estimate.standard_error);
    Ok(of_estimate(estimate, Mode::Fixed, alpha)
        .defined("diff", difference)
        .defined("t", ratio))
}

/// Everything that an estimate and its inference say.
pub(super) fn of_estimate(estimate: Defined<Estimate>, mode: Mode, alpha: f64) -> Answer {
    let found = estimate.and_then(|estimate| inference::infer(&estimate, mode, alpha));
    let part = |part: fn(&Inference) -> Defined<f64>| found.as_ref().map_err(|e| *e).and_then(part);
    Answer::default()
        .defined("estimate", estimate.map(|estimate| estimate.value))
        .defined("se", estimate.map(|estimate| estimate.standard_error))
        .defined("df", estimate.map(|estimate| estimate.degrees_of_freedom))
        .defined("critical", part(|found| found.critical))
        .defined("p", part(|found| found.p))
        .defined("lower", part(|found| found.interval.map(|at| at.low)))
        .defined("upper", part(|found| found.interval.map(|at| at.high)))
}

fn ranked(inputs: &Inputs<'_>) -> Result<RankedCounts, Failure> {
    if inputs.has("a_counts") {
        let (a, b) = (inputs.counts("a_counts")?, inputs.counts("b_counts")?);
        return Ok(RankedCounts::from_histograms(&a, &b)?);
    }
    let (a, b) = (inputs.numbers("a")?, inputs.numbers("b")?);
    Ok(RankedCounts::from_samples(&a, &b)?)
}

fn mann_whitney(inputs: &Inputs<'_>) -> Answered {
    let ranked = ranked(inputs)?;
    let continuity = inputs.flag("continuity", true);
    let method = match inputs.text("method").unwrap_or("auto") {
        "asymptotic" => RankMethod::Asymptotic { continuity },
        "exact" | "exact_ties" => RankMethod::Exact,
        _ => RankMethod::Automatic,
    };
    let found = ranked.mann_whitney(method);
    Ok(Answer::default()
        .number("u", ranked.u())
        .defined("p", found.map(|found| found.p)))
}

fn brunner_munzel(inputs: &Inputs<'_>) -> Answered {
    let ranked = ranked(inputs)?;
    let found = ranked.brunner_munzel(inputs.alpha()?);
    Ok(Answer::default()
        .number("theta", ranked.theta())
        .defined("se", found.map(|found| found.standard_error))
        .defined("df", found.map(|found| found.degrees_of_freedom))
        .defined("p", found.map(|found| found.p))
        .interval(found.map(|found| found.interval)))
}

pub(super) fn paired(inputs: &Inputs<'_>) -> Result<PairedCounts, Failure> {
    Ok(PairedCounts {
        wins: inputs.count("wins")?,
        losses: inputs.count("losses")?,
        ties: if inputs.has("ties") {
            inputs.count("ties")?
        } else {
            0
        },
    })
}

fn sign_test(inputs: &Inputs<'_>) -> Answered {
    Ok(Answer::default().defined("p", paired(inputs)?.sign_test()))
}

fn net_win_interval(inputs: &Inputs<'_>) -> Answered {
    let counts = paired(inputs)?;
    Ok(Answer::default()
        .defined("net", counts.net_win())
        .interval(counts.tango_interval(inputs.alpha()?)))
}

fn quantile_interval(inputs: &Inputs<'_>) -> Answered {
    let (values, p) = (inputs.numbers("x")?, inputs.number("p")?);
    let found = quantile::interval(&values, p, inputs.alpha()?)?;
    Ok(Answer::default()
        .number("estimate", found.estimate)
        .defined("lower", found.lower.ok_or(Undefined::Unbounded))
        .defined("upper", found.upper.ok_or(Undefined::Unbounded)))
}

fn quantile_arm(arm: Inputs<'_>) -> Result<QuantileInterval, Failure> {
    let bound = |name: &str| arm.has(name).then(|| arm.number(name)).transpose();
    Ok(QuantileInterval {
        estimate: arm.number("q")?,
        lower: bound("lower")?,
        upper: bound("upper")?,
    })
}

fn quantile_difference_outer_ci(inputs: &Inputs<'_>) -> Answered {
    // The bounds are those of 95% intervals whatever the level of the result.
    let arm = |name: &str| -> Result<_, Failure> {
        let arm = inputs.part(name)?;
        Ok(quantile::arm(&quantile_arm(arm)?, arm.count("n")?, 0.05)?)
    };
    let estimate = quantile::difference(&arm("a")?, &arm("b")?);
    Ok(of_estimate(estimate, Mode::Fixed, inputs.alpha()?))
}

fn quantile_difference_mover(inputs: &Inputs<'_>) -> Answered {
    let a = quantile_arm(inputs.part("a")?)?;
    let b = quantile_arm(inputs.part("b")?)?;
    Ok(Answer::default()
        .number("estimate", b.estimate - a.estimate)
        .interval(quantile::mover_difference(&a, &b)))
}

fn ratio_metric(inputs: &Inputs<'_>) -> Answered {
    const COLUMNS: [&str; 5] = ["sum_x", "sum_y", "sum_xx", "sum_yy", "sum_xy"];
    let (a, b) = (inputs.sums("a", COLUMNS)?, inputs.sums("b", COLUMNS)?);
    let estimate = if inputs.text("difference") == Some("relative") {
        ratio::relative_difference(&a, &b)
    } else {
        ratio::difference(&a, &b)
    };
    Ok(of_estimate(estimate, Mode::Fixed, inputs.alpha()?)
        .defined("ratio_a", ratio::arm(&a).map(|arm| arm.value))
        .defined("ratio_b", ratio::arm(&b).map(|arm| arm.value)))
}

fn relative_lift(inputs: &Inputs<'_>) -> Answered {
    let (a, b) = (inputs.moments("a")?, inputs.moments("b")?);
    let estimate = means::relative_difference(&a, &b);
    Ok(of_estimate(estimate, Mode::Fixed, inputs.alpha()?))
}

fn cuped_difference(inputs: &Inputs<'_>) -> Answered {
    const COLUMNS: [&str; 5] = [
        "sum_post",
        "sum_pre",
        "sum_post2",
        "sum_pre2",
        "sum_post_pre",
    ];
    let (a, b) = (inputs.sums("a", COLUMNS)?, inputs.sums("b", COLUMNS)?);
    let found = cuped::difference(&a, &b);
    let estimate = found.map(|found| found.estimate);
    Ok(of_estimate(estimate, Mode::Fixed, inputs.alpha()?)
        .defined("theta", found.map(|found| found.theta))
        .defined(
            "variance_reduction",
            found.map(|found| found.variance_reduction),
        ))
}

fn srm_chi_squared(inputs: &Inputs<'_>) -> Answered {
    let found = srm::chi_squared(&inputs.counts("counts")?, &inputs.numbers("weights")?)?;
    Ok(Answer::default()
        .number("chi2", found.statistic)
        .number("p", found.p))
}

fn holm(inputs: &Inputs<'_>) -> Answered {
    let adjusted = multiplicity::holm(&inputs.numbers("p")?)?;
    Ok(Answer::default().numbers("adjusted", adjusted))
}

fn benjamini_hochberg(inputs: &Inputs<'_>) -> Answered {
    let adjusted = multiplicity::benjamini_hochberg(&inputs.numbers("p")?)?;
    Ok(Answer::default().numbers("adjusted", adjusted))
}

fn e_bh(inputs: &Inputs<'_>) -> Answered {
    let rejected = multiplicity::e_bh(&inputs.numbers("e")?, inputs.alpha()?)?;
    let rejected = rejected.into_iter().map(|index| index as f64).collect();
    Ok(Answer::default().numbers("rejected", rejected))
}
