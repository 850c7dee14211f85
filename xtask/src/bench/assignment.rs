//! How long it takes to draw an arm.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, Result};
use flywheel_core::experiment::Experiment;
use flywheel_core::plan::Plan;
use serde_json::json;

use super::figures::{Figures, Goal, quantile};

const UNITS: usize = 10_000;
const ROUNDS: usize = 50;

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    for (name, layer_share) in [
        ("assignment to an arm", 10_000),
        ("assignment in a layer that experiments share", 5_000),
    ] {
        let experiment = experiment(layer_share)?;
        let units: Vec<_> = (0..UNITS).map(|number| format!("user_{number}")).collect();
        let rounds: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                for unit in &units {
                    black_box(experiment.assign(black_box(unit)));
                }
                begun.elapsed().as_nanos() as f64 / UNITS as f64
            })
            .collect();
        figures.add_goal(
            name,
            quantile(&rounds, 0.5),
            "ns",
            None,
            Goal::AtMost(500.0),
        );
    }
    Ok(())
}

fn experiment(layer_share: u32) -> Result<Experiment> {
    let manifest = "0".repeat(64);
    serde_json::from_value(json!({
        "name": "bench",
        "app": "bench",
        "environment": "production",
        "salt": "9f2d1c6c0e7a4b53",
        "unit": "user",
        "layer": "bench/production",
        "layer_share": layer_share,
        "layer_offset": 0,
        "arms": [
            {"name": "a", "manifest": manifest, "weight": 5000},
            {"name": "b", "manifest": manifest, "weight": 5000},
        ],
        "exposure": 9000,
        "status": "running",
        "created_at": "2025-01-01T00:00:00Z",
        "plan": Plan::unplanned("a".parse()?, Vec::new()),
    }))
    .context("the experiment for the bench is not one")
}
