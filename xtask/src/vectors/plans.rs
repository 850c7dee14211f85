//! Vectors of special functions and of sample sizes.

use flywheel_stats::planning::{ArmSizes, ErrorRates, means, paired, proportions, ranks};
use flywheel_stats::special::{beta, chi_squared, gamma, noncentral_t, normal, student_t};

use super::Function;
use super::answer::Answer;
use super::inputs::{Failure, Inputs};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("student_t_quantile", student_t_quantile),
    ("student_t_cdf", student_t_cdf),
    ("normal_quantile", normal_quantile),
    ("chi_squared_sf", chi_squared_sf),
    ("ln_gamma", ln_gamma),
    ("regularized_incomplete_beta", regularized_incomplete_beta),
    ("beta_quantile", beta_quantile),
    ("noncentral_t_cdf", noncentral_t_cdf),
    ("power_means", power_means),
    ("sample_size_two_proportions", sample_size_two_proportions),
    (
        "sample_size_two_proportions_continuity",
        sample_size_two_proportions_continuity,
    ),
    (
        "sample_size_two_proportions_arcsine",
        sample_size_two_proportions_arcsine,
    ),
    ("sample_size_means", sample_size_means),
    ("sample_size_mann_whitney", sample_size_mann_whitney),
    ("sample_size_sign_test", sample_size_sign_test),
];

type Answered = Result<Answer, Failure>;

fn student_t_quantile(inputs: &Inputs<'_>) -> Answered {
    let found = student_t::quantile(inputs.number("p")?, inputs.number("df")?);
    Ok(Answer::default().defined("t", found))
}

fn student_t_cdf(inputs: &Inputs<'_>) -> Answered {
    let (t, df) = (inputs.number("t")?, inputs.number("df")?);
    Ok(Answer::default()
        .defined("cdf", student_t::cdf(t, df))
        .defined("sf", student_t::sf(t, df)))
}

fn normal_quantile(inputs: &Inputs<'_>) -> Answered {
    Ok(Answer::default().defined("z", normal::quantile(inputs.number("p")?)))
}

fn chi_squared_sf(inputs: &Inputs<'_>) -> Answered {
    let found = chi_squared::sf(inputs.number("x")?, inputs.number("df")?);
    Ok(Answer::default().defined("p", found))
}

fn ln_gamma(inputs: &Inputs<'_>) -> Answered {
    Ok(Answer::default().defined("value", gamma::ln_gamma(inputs.number("x")?)))
}

fn regularized_incomplete_beta(inputs: &Inputs<'_>) -> Answered {
    let (a, b) = (inputs.number("a")?, inputs.number("b")?);
    let found = beta::regularized_incomplete_beta(a, b, inputs.number("x")?);
    Ok(Answer::default().defined("value", found))
}

fn beta_quantile(inputs: &Inputs<'_>) -> Answered {
    let (a, b) = (inputs.number("a")?, inputs.number("b")?);
    Ok(Answer::default().defined("x", beta::quantile(inputs.number("p")?, a, b)))
}

fn noncentral_t_cdf(inputs: &Inputs<'_>) -> Answered {
    let (t, df) = (inputs.number("t")?, inputs.number("df")?);
    let found = noncentral_t::cdf(t, df, inputs.number("nc")?);
    Ok(Answer::default().defined("cdf", found))
}

fn power_means(inputs: &Inputs<'_>) -> Answered {
    let n1 = inputs.number("n1")?;
    let n2 = n1 * inputs.number_or("ratio", 1.0)?;
    let two_sided = inputs.flag("two_sided", true);
    let found = means::power(inputs.number("d")?, n1, n2, inputs.alpha()?, two_sided);
    Ok(Answer::default().defined("power", found))
}

fn sample_size_two_proportions(inputs: &Inputs<'_>) -> Answered {
    let (p1, p2) = (inputs.number("p1")?, inputs.number("p2")?);
    let ratio = inputs.number_or("ratio", 1.0)?;
    let find = if inputs.flag("continuity", false) {
        proportions::sample_size_with_continuity
    } else {
        proportions::sample_size
    };
    Ok(sizes(find(p1, p2, ratio, rates(inputs)?)?))
}

fn sample_size_two_proportions_continuity(inputs: &Inputs<'_>) -> Answered {
    let (p1, p2) = (inputs.number("p1")?, inputs.number("p2")?);
    let ratio = inputs.number_or("ratio", 1.0)?;
    let found = proportions::sample_size_with_continuity(p1, p2, ratio, rates(inputs)?)?;
    Ok(sizes(found))
}

fn sample_size_two_proportions_arcsine(inputs: &Inputs<'_>) -> Answered {
    let (p1, p2) = (inputs.number("p1")?, inputs.number("p2")?);
    let ratio = inputs.number_or("ratio", 1.0)?;
    let found = proportions::sample_size_arcsine(p1, p2, ratio, rates(inputs)?)?;
    Ok(sizes(found))
}

fn sample_size_means(inputs: &Inputs<'_>) -> Answered {
    let ratio = inputs.number_or("ratio", 1.0)?;
    let found = means::sample_size(inputs.number("d")?, ratio, rates(inputs)?)?;
    Ok(sizes(found))
}

fn sample_size_mann_whitney(inputs: &Inputs<'_>) -> Answered {
    let ties = inputs.numbers_or("tie_probs", &[])?;
    let fraction = inputs.number_or("fraction", 0.5)?;
    let found = ranks::sample_size(inputs.number("theta")?, fraction, &ties, rates(inputs)?)?;
    Ok(Answer::default()
        .number("n_total", found)
        .number("n_total_ceil", found.ceil()))
}

fn sample_size_sign_test(inputs: &Inputs<'_>) -> Answered {
    let (win, loss) = (inputs.number("win")?, inputs.number("loss")?);
    let found = paired::sample_size(win, loss, rates(inputs)?)?;
    Ok(Answer::default()
        .number("pairs", found)
        .number("pairs_ceil", found.ceil()))
}

fn rates(inputs: &Inputs<'_>) -> Result<ErrorRates, Failure> {
    let one_sided = inputs
        .text("alternative")
        .is_some_and(|alternative| !alternative.starts_with("two"));
    Ok(ErrorRates {
        alpha: inputs.alpha()?,
        power: inputs.number_or("power", 0.8)?,
        two_sided: inputs.flag("two_sided", !one_sided),
    })
}

fn sizes(found: ArmSizes) -> Answer {
    Answer::default()
        .number("n1", found.first)
        .number("n2", found.second)
        .number("n1_ceil", found.first_rounded())
        .number("n2_ceil", found.second_rounded())
}
