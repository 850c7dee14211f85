//! The example: an app that summarises support tickets, its three prompt versions, and how people find each.

use serde_json::{Value, json};

pub(super) const APP: &str = "support-summarizer";
pub(super) const PROMPT: &str = "support/summary";
pub(super) const EXPERIMENT: &str = "shorter-summaries";
pub(super) const MODEL: &str = "demo-model";
pub(super) const MODEL_VERSION: &str = "1";
pub(super) const DESCRIPTION: &str =
    "Summaries of support tickets for the person on duty; about two million tickets a year";

/// A version of the prompt, and what people think of its answers.
pub(super) struct Version {
    pub(super) description: &'static str,
    pub(super) reason: &'static str,
    pub(super) system: &'static str,
    /// The longest answer; the simulated provider counts words.
    pub(super) max_tokens: usize,
    /// How often each grade from 1 to 5 is given, in percent.
    grades: [u32; 5],
    /// What those say who give 4 or 5, and what the others do.
    praise: &'static [&'static str],
    complaints: &'static [&'static str],
}

pub(super) const VERSIONS: [Version; 3] = [
    Version {
        description: "First version",
        reason: "first version",
        system: "You summarize support tickets for the person on duty.",
        max_tokens: 48,
        grades: [6, 12, 24, 36, 22],
        praise: &["fine, but long", "ok"],
        complaints: &[
            "I still have to read to the end for the request",
            "too long",
        ],
    },
    Version {
        description: "Say what is asked for first; keep order numbers",
        reason: "agents asked for the request first",
        system: "You summarize support tickets for the person on duty. Begin with what the customer asks for. Keep order \
                 numbers, amounts and dates.",
        max_tokens: 34,
        grades: [2, 4, 11, 38, 45],
        praise: &["exactly what I need", "good, order number is there"],
        complaints: &["could be a little shorter", "the amount is missing"],
    },
    Version {
        description: "One short sentence, to save tokens",
        reason: "shorter summaries, half the tokens",
        system: "You summarize support tickets for the person on duty in one very short sentence.",
        max_tokens: 11,
        grades: [21, 26, 25, 18, 10],
        praise: &["nice and short", "quick to read"],
        complaints: &[
            "which order?",
            "cut off before the request",
            "what does the customer want?",
            "had to open the ticket anyway",
        ],
    },
];

impl Version {
    /// The content that is registered.
    pub(super) fn content(&self) -> Value {
        json!({
            "template_format": "fstring",
            "messages": [
                {"role": "system", "content": self.system},
                {"role": "user", "content": "{ticket}"},
            ],
            "model_id": MODEL,
            "model_version": MODEL_VERSION,
            "params": {"temperature": 0.2, "max_tokens": self.max_tokens},
            "variables_schema": {
                "type": "object",
                "required": ["ticket"],
                "properties": {"ticket": {"type": "string", "minLength": 1}},
            },
        })
    }

    /// The grade for a draw from 0 to 99.
    pub(super) fn grade(&self, draw: u32) -> u32 {
        let mut left = draw;
        for (grade, share) in (1..).zip(self.grades) {
            if left < share {
                return grade;
            }
            left -= share;
        }
        5
    }

    /// What somebody says who gave this grade.
    pub(super) fn comment(&self, grade: u32, draw: usize) -> &'static str {
        let said = if grade >= 4 {
            self.praise
        } else {
            self.complaints
        };
        said[draw % said.len()]
    }

    /// What the simulated provider answers to a ticket, and why that ends.
    pub(super) fn answer(&self, ticket: &str) -> (String, &'static str) {
        let words: Vec<&str> = std::iter::once("[simulated]")
            .chain(ticket.split_whitespace())
            .collect();
        let is_cut = words.len() > self.max_tokens;
        let kept = &words[..words.len().min(self.max_tokens)];
        (kept.join(" "), if is_cut { "length" } else { "stop" })
    }
}

/// Tickets as customers write them; `{}` stands for a number.
const TICKETS: [&str; 10] = [
    "The customer writes that after the update of last week the invoice for May was charged twice on order {}, and asks for \
     the second payment of 49.90 to be returned to the same card within the week.",
    "The parcel of order {} has been shown as delivered since Tuesday, but nobody at the address has received it. The \
     customer wants it sent again or the money back before the weekend.",
    "Since the last release the export of reports stops at 90 percent with error {}. The customer needs the figures for an \
     audit on Friday and asks for a way around it.",
    "The customer cannot sign in after changing the e-mail address; reset links go to the old one. Account {}. Asks that the \
     new address be set by hand today.",
    "Order {} arrived with a broken display. Photos are attached. The customer would like a replacement, not a repair, and \
     asks whether the courier can take the broken one along.",
    "The yearly plan of account {} was renewed although it was cancelled in March with a confirmation. The customer asks for \
     the cancellation to be honoured and the amount returned.",
    "The app shows prices in dollars since Monday although the account {} is set to euros. The customer asks for it to be \
     corrected and for last month's invoice in euros.",
    "The customer ordered size M under order {} but received S. Asks for an exchange before a wedding on the 14th and \
     offers to pay for express.",
    "Calls to the interface fail with status 429 since this morning although only {} requests were made. The customer asks \
     for the limit to be looked at and raised for the sale next week.",
    "The technician did not come to appointment {} between 8 and 12 and nobody called. The customer has taken a day off twice \
     and asks for a fixed time and a credit.",
];

/// A ticket for a draw.
pub(super) fn ticket(draw: u32) -> String {
    let template = TICKETS[draw as usize % TICKETS.len()];
    template.replace("{}", &(10_000 + draw % 89_999).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_cover_every_draw() {
        for version in &VERSIONS {
            assert_eq!(version.grades.iter().sum::<u32>(), 100);
            assert_eq!(version.grade(0), 1);
            assert_eq!(version.grade(99), 5);
        }
    }

    #[test]
    fn the_last_version_is_the_one_to_take_back() {
        let mean = |version: &Version| {
            let draws = 0..100;
            draws.map(|draw| version.grade(draw)).sum::<u32>()
        };
        assert!(mean(&VERSIONS[1]) > mean(&VERSIONS[0]));
        assert!(mean(&VERSIONS[0]) > mean(&VERSIONS[2]));
    }

    #[test]
    fn answers_are_marked_and_as_long_as_they_may_be() {
        let (answer, reason) = VERSIONS[2].answer(&ticket(0));
        assert!(
            answer.starts_with("[simulated] The customer writes"),
            "{answer}"
        );
        assert_eq!((answer.split(' ').count(), reason), (11, "length"));
    }
}
