//! Calls: whole, streamed, repeated under an idempotency key, and logged.

use hyper::Method;
use serde_json::{Value, json};

use super::super::client::{Answer, Gone};
use super::super::ledger::{SentCall, Violation};
use super::super::upstream::answer_to;
use super::{APPS, DEPLOYED, Worker};

const DOOR: &str = "/v1/chat/completions";

impl Worker {
    pub(super) async fn call_whole(&mut self) -> Result<(), Gone> {
        let token = self.token();
        let call = self.new_call();
        let body = chat(&token, &call);
        self.ledger().send_call(&token, call);
        let answer = self.client().post(DOOR, &body).await?;
        self.take_whole(&token, &answer, false);
        Ok(())
    }

    /// A call under an idempotency key: a new one, or one sent before, whether or not that was acknowledged.
    pub(super) async fn call_keyed(&mut self) -> Result<(), Gone> {
        let earlier = match self.random.one_in(2) {
            true => {
                let mut random = self.random.branch();
                self.ledger().some_keyed(&mut random)
            }
            false => None,
        };
        let (token, call) = match earlier {
            Some((token, call)) => {
                let round = self.shared.round;
                (token, SentCall { round, ..call })
            }
            None => {
                let call = SentCall {
                    keyed: true,
                    ..self.new_call()
                };
                (self.token(), call)
            }
        };
        let is_repeat = call.id.is_some();
        let mut body = chat(&token, &call);
        body["flywheel"]["idempotency_key"] = token.as_str().into();
        self.ledger().send_call(&token, call);
        let answer = self.client().post(DOOR, &body).await?;
        self.take_whole(&token, &answer, is_repeat);
        Ok(())
    }

    fn take_whole(&self, token: &str, answer: &Answer, is_repeat: bool) {
        if !answer.is_success() {
            return self.unexpected(&format!("call `{token}`"), answer);
        }
        let body = &answer.body;
        let text = body["choices"][0]["message"]["content"].as_str();
        self.check_text(token, text.unwrap_or_default());
        let mut ledger = self.ledger();
        let id = body["id"].as_str().unwrap_or_default();
        if body["flywheel"]["recorded"] != true {
            ledger.tally.unrecorded += 1;
            return;
        }
        if is_repeat && body["flywheel"]["replayed"] != true {
            let text = format!("call `{token}` was made again although its key was known");
            ledger.violate(Violation::duplicate(text));
        }
        match is_repeat {
            true => ledger.tally.replays += 1,
            false => ledger.tally.calls += 1,
        }
        ledger.settle_call(token, id);
    }

    pub(super) async fn call_streamed(&mut self) -> Result<(), Gone> {
        let token = self.token();
        let leave_after = match self.random.one_in(10) {
            true => usize::try_from(self.random.within(1..5)).ok(),
            false => None,
        };
        let call = SentCall {
            abandoned: leave_after.is_some(),
            ..self.new_call()
        };
        let mut body = chat(&token, &call);
        body["stream"] = true.into();
        self.ledger().send_call(&token, call);
        let streamed = self.client().stream(&body, leave_after).await?;
        if leave_after.is_some() && !streamed.done {
            return Ok(());
        }
        if streamed.status != 200 || !streamed.done {
            let error = streamed.error.unwrap_or_else(|| "no [DONE]".to_owned());
            let answer = Answer {
                status: streamed.status,
                body: error.into(),
            };
            self.unexpected(&format!("stream `{token}`"), &answer);
            return Ok(());
        }
        self.check_text(&token, &streamed.text);
        let mut ledger = self.ledger();
        if streamed.recorded == Some(true) {
            ledger.tally.streams += 1;
            ledger.settle_call(&token, &streamed.id);
        } else {
            ledger.tally.unrecorded += 1;
        }
        Ok(())
    }

    fn check_text(&self, token: &str, text: &str) {
        let expected = answer_to(token);
        if text != expected {
            let text = format!("call `{token}` was answered `{text}`, not `{expected}`");
            self.ledger().violate(Violation::wrong(text));
        }
    }

    /// Calls that an app made by itself: some new, some sent before, one of them perhaps twice.
    pub(super) async fn log_calls(&mut self) -> Result<(), Gone> {
        let mut random = self.random.branch();
        let earlier = self.ledger().some_call(&mut random);
        let earlier = earlier.and_then(|(token, id)| {
            let call = self.ledger().calls.get(&token)?.clone();
            (logged_id(&token, &call) == id).then_some((token, id, call))
        });
        if let Some((token, _, call)) = &earlier
            && self.random.one_in(4)
        {
            return self.log_changed(token, call).await;
        }
        let mut sent = Vec::new();
        let mut records = Vec::new();
        for _ in 0..self.random.within(1..6) {
            let token = self.token();
            let call = self.new_call();
            records.push(record(&token, &call, &answer_to(&token)));
            let id = logged_id(&token, &call);
            self.ledger().send_call(&token, call);
            sent.push((token, id, false));
        }
        if let Some((token, id, call)) = earlier {
            records.push(record(&token, &call, &answer_to(&token)));
            sent.push((token, id, true));
        }
        if self.random.one_in(4) {
            records.push(records[0].clone());
            sent.push(sent[0].clone());
        }
        let body = self.as_items(&records);
        let answer = self
            .client()
            .send(Method::POST, "/api/v1/calls", None, body.into())
            .await?;
        let ids: Vec<_> = sent
            .iter()
            .map(|(_, id, is_there)| (id.clone(), *is_there))
            .collect();
        if self.check_stored(&answer, &ids, "logging calls") {
            let mut ledger = self.ledger();
            for (token, id, is_there) in sent {
                if ledger.settle_call(&token, &id) {
                    ledger.tally.logged += 1;
                } else if is_there {
                    ledger.tally.repeats += 1;
                }
            }
        }
        Ok(())
    }

    /// The id of a call that is there, with another output: it is refused and must change nothing.
    async fn log_changed(&mut self, token: &str, call: &SentCall) -> Result<(), Gone> {
        let body = record(token, call, "changed").to_string();
        let answer = self
            .client()
            .send(Method::POST, "/api/v1/calls", None, body.into())
            .await?;
        if answer.status != 409 {
            self.unexpected("a call that says something else", &answer);
        }
        Ok(())
    }

    /// One of the forms in which several records may be sent.
    pub(super) fn as_items(&mut self, items: &[Value]) -> String {
        match items {
            [one] => one.to_string(),
            _ if self.random.one_in(2) => json!(items).to_string(),
            _ => items.iter().map(|item| format!("{item}\n")).collect(),
        }
    }

    fn new_call(&mut self) -> SentCall {
        SentCall {
            round: self.shared.round,
            app: self.random.one_of(&APPS).copied().unwrap_or(DEPLOYED),
            ..SentCall::default()
        }
    }
}

fn chat(token: &str, call: &SentCall) -> Value {
    json!({
        "model": format!("flywheel/{}", call.app),
        "user": token,
        "flywheel": {"variables": {"token": token}, "session": token},
    })
}

/// The id under which a call is kept that was logged with its token as id.
fn logged_id(token: &str, call: &SentCall) -> String {
    format!("{}:{token}", call.app)
}

fn record(token: &str, call: &SentCall, output: &str) -> Value {
    json!({
        "id": token,
        "app": call.app,
        "session": token,
        "output": output,
        "messages": [{"role": "user", "content": token}],
        "latency_ms": 12.5,
    })
}
