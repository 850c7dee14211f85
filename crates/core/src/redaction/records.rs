//! What is redacted in calls and in feedback, and what is not.

use serde_json::Value;

use super::Redactor;
use crate::call::Call;
use crate::feedback::{Feedback, FeedbackBody};

impl Redactor {
    /// Redacts a call's variables, messages, outputs, tool calls, error and tags.
    ///
    /// Unit, session and idempotency key are identifiers and stay: assignment and counting rest on them.
    pub fn redact_call(&self, call: &mut Call) {
        if self.is_empty() {
            return;
        }
        let content = &mut call.content;
        let values = (content.variables.values_mut())
            .chain(&mut content.messages)
            .chain(&mut content.tool_calls)
            .chain(call.facts.tags.values_mut());
        values.for_each(|value: &mut Value| self.redact_json(value));
        let texts = [
            &mut content.output,
            &mut content.raw_output,
            &mut content.error,
        ];
        texts
            .into_iter()
            .flatten()
            .for_each(|text| self.redact_in_place(text));
    }

    /// Redacts the words of feedback and the name of its author. Numbers, and the names of outcomes, stay.
    pub fn redact_feedback(&self, feedback: &mut Feedback) {
        if let Some(author) = &mut feedback.author {
            self.redact_in_place(author);
        }
        match &mut feedback.body {
            FeedbackBody::Comment { text } | FeedbackBody::Correction { text } => {
                self.redact_in_place(text);
            }
            FeedbackBody::Thumbs { .. }
            | FeedbackBody::Rating { .. }
            | FeedbackBody::Outcome { .. } => {}
        }
    }

    fn redact_in_place(&self, text: &mut String) {
        if let std::borrow::Cow::Owned(redacted) = self.redact_text(text) {
            *text = redacted;
        }
    }
}
