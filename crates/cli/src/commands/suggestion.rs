//! What there is where a name is not: hints for names that were mistyped.

use flywheel_core::name::nearest;
use http::StatusCode;

use super::Context;
use crate::client::{ClientError, Target};
use crate::output::record::Record;

/// What can be named, and where all of it is listed.
const KINDS: [(&str, &str); 3] = [
    ("app", "apps"),
    ("prompt", "prompts"),
    ("experiment", "experiments"),
];
/// Further names are counted, not listed.
const MOST_NAMES: usize = 5;

impl Context<'_> {
    /// The error, and which names there are if it is about one that does not exist.
    pub(super) async fn with_suggestion(&self, error: anyhow::Error) -> anyhow::Error {
        let mut problem = match error.downcast::<ClientError>() {
            Ok(ClientError::Refused(problem)) if problem.status == StatusCode::NOT_FOUND => problem,
            Ok(other) => return other.into(),
            Err(other) => return other,
        };
        // Programs get what the server said.
        if !self.printer.is_json()
            && let Some((list, name)) = missing(&problem.detail)
            && let Some(suggestion) = self.suggestion(list, &name).await
        {
            let further = problem.hint.take().map(|hint| format!("; {hint}"));
            problem.hint = Some(suggestion + &further.unwrap_or_default());
        }
        ClientError::Refused(problem).into()
    }

    /// Says so if nothing was found because the app that was asked for does not exist.
    pub(super) async fn explain_nothing(&self, app: Option<&str>) -> Result<(), ClientError> {
        let Some(app) = app.filter(|_| !self.printer.is_json()) else {
            return Ok(());
        };
        if self.find(&Target::api("apps").at(app)).await?.is_none() {
            self.printer.warning(&format!("app `{app}` does not exist"));
            if let Some(suggestion) = self.suggestion("apps", app).await {
                self.printer.hint(&suggestion);
            }
        }
        Ok(())
    }

    /// The name that was probably meant, or the names there are.
    pub(super) async fn suggestion(&self, list: &str, name: &str) -> Option<String> {
        // Whoever may not list them is told no names.
        let items = self.client.all_items(&Target::api(list)).await.ok()?;
        let names: Vec<&str> = items.iter().map(|item| Record(item).text("name")).collect();
        advice(name, &names)
    }
}

/// Which list the name belongs to that a message says does not exist, and the name.
fn missing(message: &str) -> Option<(&'static str, String)> {
    KINDS.iter().find_map(|(kind, list)| {
        let (before, rest) = message.split_once(&format!("{kind} `"))?;
        let (name, after) = rest.split_once('`')?;
        let is_missing = before == "there is no " && after.is_empty()
            || before.is_empty() && after == " does not exist";
        is_missing.then(|| (*list, name.to_owned()))
    })
}

fn advice(name: &str, names: &[&str]) -> Option<String> {
    if let Some(meant) = nearest(name, names) {
        return Some(format!("did you mean `{meant}`?"));
    }
    let shown: Vec<String> = names
        .iter()
        .take(MOST_NAMES)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = match names.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!shown.is_empty()).then(|| format!("there are {}{more}", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood() {
        for (message, expected) in [
            ("app `a b` does not exist", Some(("apps", "a b"))),
            ("prompt `x/y` does not exist", Some(("prompts", "x/y"))),
            ("there is no experiment `e`", Some(("experiments", "e"))),
            ("there is no call `c`", None),
            ("app `a` has no environment `e`", None),
            ("nothing is deployed for app `a` in `e`", None),
        ] {
            let found = missing(message);
            let found = found.as_ref().map(|(list, name)| (*list, name.as_str()));
            assert_eq!(found, expected, "{message}");
        }
    }

    #[test]
    fn the_nearest_name_goes_first() {
        let names = ["support-summarizer", "b", "c", "d", "e", "f", "g"];
        assert_eq!(
            advice("suport-summarizer", &names).as_deref(),
            Some("did you mean `support-summarizer`?")
        );
        assert_eq!(
            advice("zzz", &names).as_deref(),
            Some("there are `support-summarizer`, `b`, `c`, `d`, `e` and 2 more")
        );
        assert_eq!(advice("zzz", &[]), None);
    }
}
