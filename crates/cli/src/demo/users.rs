//! The simulated users: they call the app through its public door and say what they think, at a human pace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flywheel_core::PromptContent;
use flywheel_gateway::clock::Sources;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::story::{self, VERSIONS, Version};
use crate::client::{Client, ClientError, Target};

/// How long people think before they say something, in milliseconds.
const THINKING: std::ops::Range<u64> = 2_000..9_000;

/// Visits until the demo ends.
pub(super) async fn visit(
    address: SocketAddr,
    calls_per_minute: u32,
    sources: Sources,
    shutdown: CancellationToken,
) {
    let Ok(client) = Client::new(&format!("http://{address}"), None) else {
        return;
    };
    let mut seed = [0_u8; 8];
    sources.entropy.fill(&mut seed);
    let mut random = fastrand::Rng::with_seed(u64::from_le_bytes(seed));
    let visits = tokio_util::task::TaskTracker::new();
    let client = Arc::new(client);
    let was_told = Arc::new(AtomicBool::new(false));
    loop {
        // Between nothing and twice the mean: people do not come by the clock.
        let mean = 60_000 / u64::from(calls_per_minute);
        let pause = Duration::from_millis(random.u64(0..=2 * mean));
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        let (client, own) = (Arc::clone(&client), random.fork());
        let shutdown = shutdown.clone();
        let was_told = Arc::clone(&was_told);
        visits.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                done = one_visit(&client, own) => {
                    // Somebody may have taken the app away: users do not mind.
                    if let Err(error) = done {
                        tracing::debug!(error.message = %error, "a simulated user gave up");
                        if is_locked_out(&error) && !was_told.swap(true, Ordering::Relaxed) {
                            tracing::warn!(
                                "the simulated users have no key, so they stay away since the first one was made"
                            );
                        }
                    }
                }
            }
        });
    }
    visits.close();
    visits.wait().await;
}

fn is_locked_out(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(problem) if problem.status == http::StatusCode::UNAUTHORIZED)
}

async fn one_visit(client: &Client, mut random: fastrand::Rng) -> Result<(), ClientError> {
    let user = format!("user_{}", random.u32(0..900));
    let ticket = story::ticket(random.u32(0..100_000));
    let request = json!({
        "model": format!("flywheel/{}", story::APP),
        "messages": [],
        "user": user,
        "flywheel": {
            "variables": {"ticket": ticket},
            "session": format!("{user}-now"),
            "tags": {"simulated": true},
        },
    });
    let answer = client
        .post(&Target::outside("/v1/chat/completions"), &request)
        .await?;
    let Some(call_id) = answer["id"].as_str() else {
        return Ok(());
    };
    let version = version_of(&answer);
    if random.u32(0..100) >= 40 {
        return Ok(());
    }
    tokio::time::sleep(Duration::from_millis(random.u64(THINKING))).await;
    let grade = version.grade(random.u32(0..100));
    let mut said = vec![json!({
        "call_id": call_id, "kind": "rating", "value": grade, "author": user,
    })];
    if random.u32(0..100) < 20 {
        said.push(json!({
            "call_id": call_id, "kind": "comment", "text": version.comment(grade, random.usize(0..16)), "author": user,
        }));
    }
    if grade <= 2 && random.u32(0..100) < 25 {
        let corrected = VERSIONS[0].answer(&ticket).0.replace("[simulated] ", "");
        said.push(json!({
            "call_id": call_id, "kind": "correction", "text": corrected, "author": user,
        }));
    }
    client.post(&Target::api("feedback"), &said.into()).await?;
    Ok(())
}

/// The version that answered. Of one that somebody made here the users think as of the example's own that answers at about
/// such length: what is cut off before it says what the customer wants, they like as little as they did before.
fn version_of(answer: &Value) -> &'static Version {
    const ENOUGH_WORDS: usize = 15;
    let id = answer["flywheel"]["prompt_version"].as_str();
    let own = VERSIONS.iter().find(|version| {
        let content = PromptContent::from_json(version.content());
        content.is_ok_and(|content| Some(content.id().to_string().as_str()) == id)
    });
    let text = answer["choices"][0]["message"]["content"].as_str();
    let words = text.map_or(0, |text| text.split_whitespace().count());
    own.unwrap_or(&VERSIONS[if words < ENOUGH_WORDS { 2 } else { 1 }])
}
