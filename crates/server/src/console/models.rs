//! Registered models, what serves them, and whether that works.

use askama::Template;
use axum::extract::State;

use super::answer::{Frame, PageResult, page};
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::deploy::provider_problem;

struct Row {
    name: String,
    aliases: Vec<String>,
    provider: String,
    provider_model: String,
    price: String,
    registered: Markup,
    problem: Option<String>,
    is_failing: bool,
}

#[derive(Template)]
#[template(path = "models.html")]
struct ModelsPage {
    frame: Frame,
    rows: Vec<Row>,
}

/// `GET /models`
pub(super) async fn list_models(State(context): State<Context>, visitor: Visitor) -> PageResult {
    let now = context.sources.clock.now();
    let mut session = context.state.read().await?;
    let models = session.models().list().await?;
    let aliases = session.models().aliases().await?;
    let rows = models
        .into_iter()
        .map(|model| {
            let names = aliases.iter().filter(|alias| {
                alias.model_id == model.model_id && alias.model_version == model.model_version
            });
            let provider = model.settings.provider.to_string();
            Row {
                aliases: names.map(|alias| alias.alias.to_string()).collect(),
                problem: provider_problem(&context, &provider),
                is_failing: context
                    .endpoints
                    .get(&provider)
                    .is_some_and(|endpoint| endpoint.breaker.is_open()),
                price: model.settings.price.map_or_else(
                    || "–".to_owned(),
                    |price| format!("{} in, {} out", dollars(price.input), dollars(price.output)),
                ),
                name: format!("{}:{}", model.model_id, model.model_version),
                provider_model: model.settings.provider_model,
                registered: show::when(model.created_at, now),
                provider,
            }
        })
        .collect();
    page(&ModelsPage {
        frame: Frame::new(&context, &visitor, "Models", "/models"),
        rows,
    })
}

/// A price with its cents, and with more digits where it has them.
fn dollars(price: f64) -> String {
    let cents = format!("{price:.2}");
    if cents.parse() == Ok(price) {
        format!("${cents}")
    } else {
        format!("${price}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_have_cents() {
        for (price, shown) in [
            (0.6, "$0.60"),
            (15.0, "$15.00"),
            (0.0, "$0.00"),
            (0.075, "$0.075"),
        ] {
            assert_eq!(dollars(price), shown);
        }
    }
}
