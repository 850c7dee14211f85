//! What is redacted in calls and in feedback, and what is not.

use super::Redactor;
use crate::call::Call;
use crate::feedback::{Feedback, FeedbackBody};

impl Redactor {
    /// Redacts a call's variables, messages, outputs, tool calls, error and tags, and notes whether its answer changed.
    ///
    /// Unit, session and idempotency key are identifiers and stay: assignment and counting rest on them.
    pub fn redact_call(&self, call: &mut Call) {
        if self.is_empty() {
            return;
        }
        let content = &mut call.content;
        let values = (content.variables.values_mut())
            .chain(&mut content.messages)
            .chain(call.facts.tags.values_mut());
        for value in values {
            self.redact_json(value);
        }
        for text in [&mut content.raw_output, &mut content.error] {
            text.iter_mut().for_each(|text| {
                self.redact_in_place(text);
            });
        }
        let text = content.output.as_mut();
        let calls = content.tool_calls.as_mut();
        let redacted = [
            text.is_some_and(|text| self.redact_in_place(text)),
            calls.is_some_and(|calls| self.redact_json(calls)),
        ];
        call.facts.redacted |= redacted.contains(&true);
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

    fn redact_in_place(&self, text: &mut String) -> bool {
        let std::borrow::Cow::Owned(redacted) = self.redact_text(text) else {
            return false;
        };
        *text = redacted;
        true
    }
}
