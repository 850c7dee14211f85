//! Feedback: single and in batches, with ids of which some were sent before.

use hyper::Method;
use serde_json::{Value, json};

use super::super::client::Gone;
use super::super::ledger::SentFeedback;
use super::Worker;

const DOOR: &str = "/api/v1/feedback";

/// What the server puts before an idempotency key of those who need no key.
const BY_HEADER: &str = "local:";

/// One piece of feedback on its way.
struct Piece {
    id: String,
    call_id: String,
    body: Value,
    is_there: bool,
}

impl Worker {
    /// One piece; its id is in the body or, under the sender's name, in the header. One that was sent before may come with
    /// other words, which are refused.
    pub(super) async fn send_feedback(&mut self) -> Result<(), Gone> {
        let Some(piece) = self.piece() else {
            return Ok(());
        };
        self.note(&piece);
        let changed = piece.is_there && self.random.one_in(2);
        let mut body = match changed {
            true => json!({"kind": "comment", "text": "this must not be kept"}),
            false => piece.body.clone(),
        };
        body["call_id"] = piece.call_id.as_str().into();
        let key = piece.id.strip_prefix(BY_HEADER);
        if key.is_none() {
            body["id"] = piece.id.as_str().into();
        }
        let answer = self
            .client()
            .send(Method::POST, DOOR, key, body.to_string().into())
            .await?;
        if changed {
            if answer.status != 409 {
                self.unexpected("feedback that says something else", &answer);
            }
            return Ok(());
        }
        let sent = [(piece.id.clone(), piece.is_there)];
        if self.check_stored(&answer, &sent, "feedback") {
            self.settle(&sent);
        }
        Ok(())
    }

    /// Several pieces, one of them perhaps twice.
    pub(super) async fn send_feedback_batch(&mut self) -> Result<(), Gone> {
        let count = self.random.within(2..9);
        let mut pieces: Vec<Piece> = Vec::new();
        for _ in 0..count {
            pieces.extend(self.piece());
        }
        let mut items = Vec::new();
        let mut sent = Vec::new();
        for piece in &pieces {
            self.note(piece);
            let mut item = piece.body.clone();
            item["id"] = piece.id.as_str().into();
            item["call_id"] = piece.call_id.as_str().into();
            items.push(item);
            sent.push((piece.id.clone(), piece.is_there));
        }
        if items.is_empty() {
            return Ok(());
        }
        if self.random.one_in(3) {
            items.push(items[0].clone());
            sent.push(sent[0].clone());
        }
        let body = self.as_items(&items);
        let answer = self
            .client()
            .send(Method::POST, DOOR, None, body.into())
            .await?;
        if self.check_stored(&answer, &sent, "a batch of feedback") {
            self.settle(&sent);
        }
        Ok(())
    }

    /// A new piece about a call that is there, or once in five an earlier one.
    fn piece(&mut self) -> Option<Piece> {
        let mut random = self.random.branch();
        if self.random.one_in(5) {
            let earlier = self.ledger().some_feedback(&mut random);
            if let Some((id, earlier)) = earlier {
                return Some(Piece {
                    id,
                    call_id: earlier.call_id,
                    body: earlier.body,
                    is_there: true,
                });
            }
        }
        let (_, call_id) = self.ledger().some_call(&mut random)?;
        let id = match random.one_in(2) {
            true => format!("{BY_HEADER}{}", self.token()),
            false => self.token(),
        };
        let body = match random.within(0..4) {
            0 => json!({"kind": "thumbs", "value": random.one_in(2)}),
            1 => json!({"kind": "rating", "value": random.within(1..6)}),
            2 => json!({"kind": "comment", "text": format!("{id} said é\n\"so\"")}),
            _ => json!({"kind": "outcome", "name": "handle_time", "value": random.within(0..900)}),
        };
        let is_there = false;
        Some(Piece {
            id,
            call_id,
            body,
            is_there,
        })
    }

    fn note(&self, piece: &Piece) {
        let sent = SentFeedback {
            round: self.shared.round,
            call_id: piece.call_id.clone(),
            body: piece.body.clone(),
            is_there: false,
        };
        self.ledger().send_feedback(&piece.id, sent);
    }

    fn settle(&self, sent: &[(String, bool)]) {
        let mut ledger = self.ledger();
        for (id, is_there) in sent {
            if ledger.settle_feedback(id) {
                ledger.tally.feedback += 1;
            } else if *is_there {
                ledger.tally.repeats += 1;
            }
        }
    }
}
