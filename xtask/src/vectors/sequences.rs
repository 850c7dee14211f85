//! Vectors of inference that holds at any look.

use flywheel_stats::detector::{Detector, HIGHEST_RATE, MULTIPLIERS};
use flywheel_stats::inference::Mode;
use flywheel_stats::sequential::{
    self, asymptotic, bernoulli, betting, empirical_bernstein, group_sequential, net_win,
    randomisation, t_mixture,
};
use flywheel_stats::{means, srm};
use serde_json::Value;

use super::Function;
use super::answer::Answer;
use super::fixed::{of_estimate, paired};
use super::inputs::{Failure, Inputs};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("mixture_rho_squared", mixture_rho_squared),
    ("sequential_z", sequential_z),
    ("t_mixture", t_mixture_of_plan),
    ("t_mixture_logbf", t_mixture_logbf),
    ("sequential_mean_difference", sequential_mean_difference),
    (
        "sequential_mean_difference_one_sided",
        sequential_mean_difference_one_sided,
    ),
    (
        "bernoulli_confidence_sequence",
        bernoulli_confidence_sequence,
    ),
    ("normal_mixture_bound", normal_mixture_bound),
    ("empirical_bernstein_cs", empirical_bernstein_cs),
    ("betting_cs", betting_cs),
    ("net_win_eprocess", net_win_eprocess),
    ("net_win_confidence_sequence", net_win_confidence_sequence),
    ("randomisation_eprocess", randomisation_eprocess),
    ("srm_sequential", srm_sequential),
    ("group_sequential_bounds", group_sequential_bounds),
    ("esr_detector", esr_detector),
];

type Answered = Result<Answer, Failure>;

/// ρ², given or tuned to the planned number of units.
fn rho_squared(inputs: &Inputs<'_>, alpha: f64) -> Result<f64, Failure> {
    if inputs.has("rho2") {
        return inputs.number("rho2");
    }
    Ok(sequential::rho_squared(alpha, inputs.number("n_star")?)?)
}

fn mixture_rho_squared(inputs: &Inputs<'_>) -> Answered {
    let found = sequential::rho_squared(inputs.alpha()?, inputs.number("n_star")?);
    Ok(Answer::default().defined("rho2", found))
}

fn sequential_z(inputs: &Inputs<'_>) -> Answered {
    let (n, alpha) = (inputs.number("n")?, inputs.alpha()?);
    let rho = rho_squared(inputs, alpha)?;
    Ok(Answer::default()
        .defined("critical", asymptotic::critical(n, rho, alpha))
        .defined("p", asymptotic::p_value(inputs.number("z")?, n, rho)))
}

fn t_mixture_of_plan(inputs: &Inputs<'_>) -> Answered {
    let (n, df, alpha) = (inputs.number("n")?, inputs.number("df")?, inputs.alpha()?);
    let rho = rho_squared(inputs, alpha)?;
    let t = inputs.number("t")?;
    Ok(Answer::default()
        .defined("critical", t_mixture::critical(n, df, rho, alpha))
        .defined("log_e", t_mixture::log_e(t, n, df, rho))
        .defined("p", t_mixture::p_value(t, n, df, rho)))
}

fn t_mixture_logbf(inputs: &Inputs<'_>) -> Answered {
    let (df, g, n) = (
        inputs.number("df")?,
        inputs.number("g")?,
        inputs.number("n")?,
    );
    let found = t_mixture::log_e_of_square(inputs.number("t2")?, df, g, n);
    Ok(Answer::default().defined("log_e", found))
}

fn sequential_mean_difference(inputs: &Inputs<'_>) -> Answered {
    let alpha = inputs.alpha()?;
    let rho_squared = rho_squared(inputs, alpha)?;
    let estimate = means::difference(&inputs.moments("a")?, &inputs.moments("b")?);
    Ok(of_estimate(
        estimate,
        Mode::Asymptotic { rho_squared },
        alpha,
    ))
}

fn sequential_mean_difference_one_sided(inputs: &Inputs<'_>) -> Answered {
    let alpha = inputs.alpha()?;
    let rho = rho_squared(inputs, 2.0 * alpha)?;
    let estimate = means::difference(&inputs.moments("a")?, &inputs.moments("b")?)?;
    Ok(Answer::default()
        .number("estimate", estimate.value)
        .number("se", estimate.standard_error)
        .defined("lower", asymptotic::lower_bound(&estimate, rho, alpha)))
}

fn bernoulli_confidence_sequence(inputs: &Inputs<'_>) -> Answered {
    let (successes, n, alpha) = (
        inputs.number("successes")?,
        inputs.number("n")?,
        inputs.alpha()?,
    );
    let tuned_alpha = inputs.number_or("alpha_opt", alpha)?;
    let tuned_n = inputs.number("t_opt")?;
    let found = bernoulli::confidence_sequence(successes, n, alpha, tuned_n, tuned_alpha);
    Ok(Answer::default().interval(found))
}

fn normal_mixture_bound(inputs: &Inputs<'_>) -> Answered {
    let alpha = inputs.alpha()?;
    let found = asymptotic::normal_mixture_bound(
        inputs.number("v")?,
        alpha,
        inputs.number("v_opt")?,
        inputs.number_or("alpha_opt", alpha)?,
        inputs.flag("one_sided", false),
    );
    Ok(Answer::default().defined("bound", found))
}

fn empirical_bernstein_cs(inputs: &Inputs<'_>) -> Answered {
    let truncation = inputs.number_or("truncation", empirical_bernstein::TRUNCATION)?;
    let mut state = empirical_bernstein::EmpiricalBernstein::new(inputs.alpha()?, truncation)?;
    let mut answer = Answer::default();
    for score in inputs.numbers("x")? {
        state.push(score)?;
        let (at, interval) = (state.n(), state.interval());
        answer = answer
            .named(format!("lower_at_{at}"), interval.map(|found| found.low))
            .named(format!("upper_at_{at}"), interval.map(|found| found.high));
    }
    Ok(answer.interval(state.interval()))
}

fn betting_cs(inputs: &Inputs<'_>) -> Answered {
    let grid = inputs.number_or("grid", 1000.0)?.clamp(1.0, 1e5) as u32;
    let found = betting::confidence_interval(&inputs.numbers("x")?, inputs.alpha()?, grid);
    Ok(Answer::default().interval(found))
}

fn net_win_eprocess(inputs: &Inputs<'_>) -> Answered {
    let counts = paired(inputs)?;
    let margin = inputs.number_or("margin", 0.0)?;
    let bets = inputs.numbers_or("bets", &net_win::BETS)?;
    Ok(Answer::default()
        .defined("log_e_win", net_win::log_e(counts, margin, &bets))
        .defined(
            "log_e_loss",
            net_win::log_e(counts.swapped(), -margin, &bets),
        ))
}

fn net_win_confidence_sequence(inputs: &Inputs<'_>) -> Answered {
    let bets = inputs.numbers_or("bets", &net_win::BETS)?;
    let found = net_win::confidence_sequence(paired(inputs)?, inputs.alpha()?, &bets);
    Ok(Answer::default().interval(found))
}

fn randomisation_eprocess(inputs: &Inputs<'_>) -> Answered {
    let arm = |arm: &str| -> Result<_, Failure> {
        let count = |kind: &str| inputs.count(&format!("{kind}_{arm}"));
        Ok([count("success")? as f64, count("failure")? as f64])
    };
    let concentration = inputs.number_or("concentration", randomisation::CONCENTRATION)?;
    let share = inputs.number_or("share_b", 0.5)?;
    let found = randomisation::log_e_of_counts(arm("a")?, arm("b")?, share, concentration);
    Ok(Answer::default()
        .defined("log_e", found)
        .defined("p", found.map(sequential::p_from_log_e)))
}

fn srm_sequential(inputs: &Inputs<'_>) -> Answered {
    let (counts, weights) = (inputs.counts("counts")?, inputs.numbers("weights")?);
    let found = if inputs.has("concentration") {
        srm::log_e(&counts, &weights, inputs.number("concentration")?)
    } else {
        srm::averaged_log_e(&counts, &weights)
    };
    Ok(Answer::default()
        .defined("log_e", found)
        .defined("p", found.map(sequential::p_from_log_e)))
}

fn group_sequential_bounds(inputs: &Inputs<'_>) -> Answered {
    let information = inputs.numbers("information")?;
    let phi = inputs.number_or("phi", group_sequential::SPENDING_EXPONENT)?;
    let sides = inputs.number_or("sides", 2.0)?;
    let sides = if sides == 1.0 || sides == 2.0 {
        sides as u32
    } else {
        0
    };
    let found = group_sequential::boundaries(&information, inputs.alpha()?, phi, sides)?;
    Ok(Answer::default().numbers("z", found))
}

fn esr_detector(inputs: &Inputs<'_>) -> Answered {
    let multipliers = inputs.numbers_or("multipliers", &MULTIPLIERS)?;
    let highest = inputs.number_or("p1_cap", HIGHEST_RATE)?;
    let mut detector = Detector::of_failures(inputs.number("p0")?, &multipliers, highest)?;
    let outcomes = inputs.any("x")?.as_array().into_iter().flatten();
    let failed = |outcome: &Value| match super::inputs::number_of(outcome) {
        Some(1.0) => Ok(true),
        Some(0.0) => Ok(false),
        _ => Err(flywheel_stats::Undefined::Domain("an outcome is 0 or 1")),
    };
    let evidence = outcomes
        .map(|outcome| detector.push_failure(failed(outcome)?))
        .collect::<Result<_, _>>()?;
    Ok(Answer::default().numbers("log_m", evidence))
}
