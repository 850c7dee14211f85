//! Vectors of judges: agreement, corrected rates and prediction-powered means.

use flywheel_stats::accumulate::{CrossMoments, Moments};
use flywheel_stats::agreement::{self, Weights};
use flywheel_stats::corrected_rate::JudgedRate;
use flywheel_stats::ppi::{self, SmallSamples, Weight};
use flywheel_stats::undefined::Undefined;

use super::Function;
use super::answer::Answer;
use super::inputs::{Failure, Inputs};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("cohen_kappa", cohen_kappa),
    ("gwet_ac1", gwet_ac1),
    ("rogan_gladen", rogan_gladen),
    ("lang_reiczigel_interval", lang_reiczigel_interval),
    ("ppi_mean", ppi_mean),
];

type Answered = Result<Answer, Failure>;

fn cohen_kappa(inputs: &Inputs<'_>) -> Answered {
    let weights = match inputs.text("weights") {
        None | Some("none" | "unweighted") => Weights::Unweighted,
        Some("linear") => Weights::Linear,
        Some("quadratic" | "fc") => Weights::Quadratic,
        Some(other) => {
            return Err(Failure::Unreadable(format!(
                "no weights are called `{other}`"
            )));
        }
    };
    let found = agreement::cohen_kappa(&inputs.table("table")?, weights, inputs.alpha()?)?;
    Ok(Answer::default()
        .number("kappa", found.kappa)
        .number("se", found.standard_error)
        .interval(Ok(found.interval)))
}

fn gwet_ac1(inputs: &Inputs<'_>) -> Answered {
    let found = agreement::gwet_ac1(&inputs.table("table")?);
    Ok(Answer::default().defined("ac1", found))
}

fn judged(inputs: &Inputs<'_>) -> Result<JudgedRate, Failure> {
    Ok(JudgedRate {
        observed: inputs.number("p_obs")?,
        n: inputs.number("n")?,
        sensitivity: inputs.number("sensitivity")?,
        positives: inputs.number("n_pos")?,
        specificity: inputs.number("specificity")?,
        negatives: inputs.number("n_neg")?,
    })
}

fn rogan_gladen(inputs: &Inputs<'_>) -> Answered {
    let judged = judged(inputs)?;
    let found = judged.rogan_gladen()?;
    Ok(Answer::default()
        .number("rate", found.rate)
        .number("se", found.standard_error)
        .interval(judged.lang_reiczigel_interval(inputs.alpha()?)))
}

fn lang_reiczigel_interval(inputs: &Inputs<'_>) -> Answered {
    let found = judged(inputs)?.lang_reiczigel_interval(inputs.alpha()?);
    Ok(Answer::default().interval(found))
}

fn ppi_mean(inputs: &Inputs<'_>) -> Answered {
    let (human, judge) = (inputs.numbers("y")?, inputs.numbers("f_labeled")?);
    if human.len() != judge.len() {
        return Err(Undefined::Domain("every label needs its judge's verdict").into());
    }
    let pairs: Vec<[f64; 2]> = human
        .into_iter()
        .zip(judge)
        .map(|(human, judge)| [human, judge])
        .collect();
    let weight = if inputs.has("lambda_") {
        Weight::Given(inputs.number("lambda_")?)
    } else {
        Weight::Tuned
    };
    // The reference uses z and divisor n whatever the sample.
    let found = ppi::mean(
        &CrossMoments::of(&pairs),
        &Moments::of(&inputs.numbers("f_unlabeled")?),
        weight,
        SmallSamples::Uncorrected,
        inputs.alpha()?,
    )?;
    Ok(Answer::default()
        .number("estimate", found.estimate)
        .number("se", found.standard_error)
        .number("lambda", found.lambda)
        .interval(Ok(found.interval)))
}
