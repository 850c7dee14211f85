//! The week behind the demo, written straight into its store: what could not have happened through the API in a second.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use flywheel_core::audit::AuditDraft;
use flywheel_core::call::{Call, CallContent, CallFacts, CallStatus};
use flywheel_core::deployment::{App, AppSettings, DeploymentKind};
use flywheel_core::experiment::{Arm, Epoch, Experiment, ExperimentStatus, UnitKind};
use flywheel_core::feedback::{Feedback, FeedbackBody, RatingScale};
use flywheel_core::metric;
use flywheel_core::model::{ModelSettings, ModelVersion, Price, Usage};
use flywheel_core::name::ArmName;
use flywheel_core::plan::{Effect, Guardrail, Plan};
use flywheel_core::{Manifest, ManifestId, PromptContent};
use flywheel_gateway::clock::Sources;
use flywheel_server::operations::planning;
use flywheel_storage::deployments::NewDeployment;
use flywheel_storage::prompts::NewPromptVersion;
use flywheel_storage::weeks::WeeksQuery;
use flywheel_storage::{
    EventStore as _, NewEvent, StateStore as _, StateTransaction, StatisticsStore as _,
};
use flywheel_storage_sql::{SqliteOptions, SqliteStore};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::PROVIDER;
use super::story::{self, VERSIONS};

const DAYS: i64 = 7;

/// Of so many moments, [`is_busy`] takes about that many.
const MOMENTS: (i64, i64) = (1000, 698);

/// Calls of one user in the week, about.
const CALLS_PER_USER: u32 = 3;

/// How many of a hundred answers somebody grades.
const GRADED: u32 = 40;

/// How many events are written at a time.
const GROUP: usize = 500;

/// Hours before now at which each version went to production.
const DEPLOYED_HOURS_AGO: [i64; 3] = [7 * 24, 4 * 24 + 10, 22];

/// Hours before now at which each was registered and went to staging.
const REGISTERED_HOURS_AGO: [i64; 3] = [7 * 24 + 1, 4 * 24 + 11, 85];

/// The experiment began so long ago.
const EXPERIMENT_HOURS_AGO: i64 = 84;

/// The share of users in it, in basis points.
const EXPOSURE: u32 = 7000;

/// What the example's versions are as manifests, and the experiment between two of them.
struct Example {
    manifests: Vec<Manifest>,
    experiment: Experiment,
    started_at: Timestamp,
}

/// Writes the example into a new store, with about so many calls.
pub(super) async fn write(
    database: &Path,
    model: &str,
    calls: u32,
    sources: &Sources,
) -> Result<()> {
    let store = SqliteStore::open(database, SqliteOptions::default())
        .await
        .context("the store of the demo cannot be made")?;
    let now = sources.clock.now();
    let mut example = example(now)?;
    let mut is_registered = false;
    let mut random = fastrand::Rng::with_seed(7);
    let mut events = Vec::with_capacity(GROUP + 2);
    let total = i64::from(calls) * MOMENTS.0 / MOMENTS.1;
    let users = calls.div_ceil(CALLS_PER_USER);
    for number in 0..total {
        // Up to a minute ago; from then on the simulated users call.
        let span = DAYS * 24 * 3600 - 60;
        let seconds = number * span / total;
        let at = now - SignedDuration::from_secs(span + 60 - seconds)
            + SignedDuration::from_millis(random.i64(0..30_000));
        if !is_busy(at, &mut random) {
            continue;
        }
        if at >= example.started_at && !is_registered {
            // The plan knows the traffic before it.
            store.append(std::mem::take(&mut events)).await?;
            register(&store, &mut example, model, now).await?;
            is_registered = true;
        }
        let user = format!("user_{}", random.u32(0..users));
        add_call(
            &mut events,
            &example,
            user,
            (at.min(now), now),
            sources,
            &mut random,
        );
        if events.len() >= GROUP {
            store.append(std::mem::take(&mut events)).await?;
        }
    }
    store.append(events).await?;
    settle(&store).await?;
    store.close().await?;
    Ok(())
}

/// Lets the store take everything in, so that the first look at it finds it at rest.
async fn settle(store: &SqliteStore) -> Result<()> {
    let asked = WeeksQuery {
        app: story::APP.parse()?,
        environment: None,
        from: None,
        to: None,
    };
    loop {
        store.maintain().await?;
        if store.weeks(&asked).await?.taken_in.is_none() {
            return Ok(());
        }
    }
}

/// People write tickets by day more than by night.
fn is_busy(at: Timestamp, random: &mut fastrand::Rng) -> bool {
    let hour = at.as_second().rem_euclid(86_400) / 3600;
    let share = match hour {
        7..19 => 100,
        5..22 => 60,
        _ => 25,
    };
    random.i64(0..100) < share
}

fn example(now: Timestamp) -> Result<Example> {
    let manifests = VERSIONS.iter().map(manifest).collect::<Result<Vec<_>>>()?;
    let [_, control, shorter] = manifests.as_slice() else {
        bail!("the example has three versions");
    };
    let started_at = now - SignedDuration::from_hours(EXPERIMENT_HOURS_AGO);
    Ok(Example {
        experiment: experiment(control, shorter, started_at)?,
        manifests,
        started_at,
    })
}

fn manifest(version: &story::Version) -> Result<Manifest> {
    let content = PromptContent::from_json(version.content())?;
    Ok(Manifest {
        model_id: content.model_id.clone(),
        model_version: content.model_version.clone(),
        prompt_id: story::PROMPT.parse()?,
        prompt_version: content.id(),
        retriever_index_version: None,
        guards_version: None,
    })
}

/// Writes all that was registered and deployed in the week, in the order in which it happened, which is that of the audit log.
async fn register(
    store: &SqliteStore,
    example: &mut Example,
    model: &str,
    now: Timestamp,
) -> Result<()> {
    let Example {
        manifests,
        experiment,
        started_at,
    } = example;
    match planning::estimate(store, experiment, *started_at).await {
        Ok(plan) => experiment.plan = plan,
        Err(problem) => bail!("the demo has no plan: {}", problem.detail()),
    }
    experiment.plan_hash = Some(experiment.plan.hash());
    let mut begun = store.begin().await?;
    let transaction = &mut *begun;
    let ago = |hours| now - SignedDuration::from_hours(hours);
    register_app(transaction, model, ago(DEPLOYED_HOURS_AGO[0] + 2)).await?;
    let mut previous = None;
    for (index, (version, manifest)) in VERSIONS.iter().zip(&*manifests).enumerate() {
        let pushed = ago(REGISTERED_HOURS_AGO[index]);
        register_version(transaction, version, manifest, pushed).await?;
        let mut move_to = Step {
            environment: "staging",
            actor: "ci",
            manifest: manifest.clone(),
            previous,
            reason: version.reason,
            at: pushed,
        };
        deploy(transaction, &move_to).await?;
        if index + 1 == manifests.len() {
            transaction.experiments().put(experiment).await?;
            let (action, detail) = ("experiment.start", json!(experiment));
            let subject = story::EXPERIMENT;
            note(transaction, *started_at, "ops", action, subject, detail).await?;
        }
        move_to.environment = "production";
        move_to.actor = "ops";
        move_to.at = ago(DEPLOYED_HOURS_AGO[index]);
        deploy(transaction, &move_to).await?;
        previous = Some(manifest.id());
    }
    begun.commit().await?;
    Ok(())
}

async fn register_version(
    transaction: &mut dyn StateTransaction,
    version: &story::Version,
    manifest: &Manifest,
    at: Timestamp,
) -> Result<()> {
    let new = NewPromptVersion {
        prompt: manifest.prompt_id.clone(),
        content: PromptContent::from_json(version.content())?,
        author: "ci".to_owned(),
        description: version.description.to_owned(),
        created_at: at,
    };
    transaction.prompts().register(new).await?;
    let detail = json!({"version": manifest.prompt_version});
    note(
        transaction,
        at,
        "ci",
        "prompt.register",
        story::PROMPT,
        detail,
    )
    .await?;
    transaction.deployments().put_manifest(manifest, at).await?;
    Ok(())
}

/// A deployment of the week.
struct Step {
    environment: &'static str,
    actor: &'static str,
    manifest: Manifest,
    previous: Option<ManifestId>,
    reason: &'static str,
    at: Timestamp,
}

async fn deploy(transaction: &mut dyn StateTransaction, step: &Step) -> Result<()> {
    let made = NewDeployment {
        app: story::APP.parse()?,
        environment: step.environment.parse()?,
        manifest: step.manifest.id(),
        previous_manifest: step.previous,
        kind: DeploymentKind::Deploy,
        actor: step.actor.to_owned(),
        reason: step.reason.to_owned(),
        created_at: step.at,
        forced_over: Vec::new(),
    };
    let made = transaction.deployments().append(made).await?;
    let subject = format!("{}/{}", story::APP, step.environment);
    let detail = json!({"number": made.number, "manifest": made.manifest, "reason": made.reason});
    note(
        transaction,
        step.at,
        step.actor,
        "app.deploy",
        &subject,
        detail,
    )
    .await
}

/// The model and the app, before any version of its prompt.
async fn register_app(
    transaction: &mut dyn StateTransaction,
    model: &str,
    begun: Timestamp,
) -> Result<()> {
    let model = ModelVersion {
        model_id: story::MODEL.parse()?,
        model_version: story::MODEL_VERSION.parse()?,
        settings: ModelSettings {
            provider: PROVIDER.parse()?,
            provider_model: model.to_owned(),
            price: Some(Price {
                input: 0.15,
                output: 0.6,
                cached_input: None,
            }),
        },
        created_at: begun,
    };
    transaction.models().put(&model).await?;
    note(
        transaction,
        begun,
        "ci",
        "model.put",
        story::MODEL,
        json!({}),
    )
    .await?;
    let app = App {
        name: story::APP.parse()?,
        settings: AppSettings {
            description: story::DESCRIPTION.to_owned(),
            ..AppSettings::default()
        },
        created_at: begun,
    };
    transaction.deployments().put_app(&app).await?;
    note(transaction, begun, "ops", "app.put", story::APP, json!(app)).await
}

fn experiment(control: &Manifest, shorter: &Manifest, at: Timestamp) -> Result<Experiment> {
    let arm = |name: &str, manifest: &Manifest| -> Result<Arm> {
        Ok(Arm {
            name: name.parse()?,
            manifest: Some(manifest.id()),
            weight: 5000,
        })
    };
    let control_arm: ArmName = "control".parse()?;
    let plan = Plan {
        primary: Some("rating".parse()?),
        mde: Some(Effect::Absolute(0.2)),
        guardrails: vec![
            Guardrail {
                metric: "hard_failures".parse()?,
                margin: Effect::Absolute(0.01),
            },
            Guardrail {
                metric: "latency_p95".parse()?,
                margin: Effect::Relative(0.1),
            },
        ],
        // The week has few users; what is planned for real traffic waits for twice as many.
        floor: 100,
        ..Plan::unplanned(control_arm, metric::starter_set())
    };
    Ok(Experiment {
        name: story::EXPERIMENT.parse()?,
        app: story::APP.parse()?,
        environment: "production".parse()?,
        hypothesis: "one short sentence is rated no lower and costs half".to_owned(),
        salt: "demo-shorter-summaries".to_owned(),
        unit: UnitKind::User,
        layer: format!("{}/production", story::APP),
        layer_share: 10_000,
        layer_offset: 0,
        arms: vec![arm("control", control)?, arm("shorter", shorter)?],
        exposure: EXPOSURE,
        status: ExperimentStatus::Running,
        created_at: at,
        started_at: Some(at),
        stopped_at: None,
        plan_hash: None,
        plan,
        plan_changes: Vec::new(),
        epochs: vec![Epoch {
            since: at,
            weights: vec![5000, 5000],
            exposure: EXPOSURE,
            stopped_arm: None,
        }],
        decision: None,
    })
}

async fn note(
    transaction: &mut dyn StateTransaction,
    at: Timestamp,
    actor: &str,
    action: &str,
    subject: &str,
    detail: Value,
) -> Result<()> {
    let draft = AuditDraft {
        at,
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail,
    };
    transaction.audit().append(draft).await?;
    Ok(())
}

fn add_call(
    events: &mut Vec<NewEvent>,
    example: &Example,
    user: String,
    (at, now): (Timestamp, Timestamp),
    sources: &Sources,
    random: &mut fastrand::Rng,
) {
    let hours = now.duration_since(at).as_hours();
    let mut index = DEPLOYED_HOURS_AGO
        .iter()
        .rposition(|deployed| hours < *deployed)
        .unwrap_or(0);
    let experiment = &example.experiment;
    let arm = Some(example.started_at)
        .filter(|started| at >= *started)
        .and_then(|_| experiment.assign(&user));
    if let Some(arm) = arm {
        index = usize::from(arm.name.as_str() == "shorter") + 1;
    }
    let (version, manifest) = (&VERSIONS[index], &example.manifests[index]);
    let ticket = story::ticket(random.u32(0..100_000));
    let (answer, reason) = version.answer(&ticket);
    let words = |text: &str| text.split_whitespace().count() as u64;
    let usage = Usage {
        input_tokens: words(version.system) + words(&ticket),
        output_tokens: words(&answer),
        cached_input_tokens: 0,
    };
    let latency = 180_000 + usage.output_tokens * random.u64(38_000..56_000);
    // Now and then a provider fails; once, for an hour, it did so often.
    let in_outage = (52..53).contains(&hours);
    let fails = random.u32(0..1000) < if in_outage { 220 } else { 6 };
    let cost = (usage.input_tokens * 150 + usage.output_tokens * 600) as i64;
    let mut variables = Map::new();
    variables.insert("ticket".to_owned(), ticket.clone().into());
    let mut tags = Map::new();
    tags.insert("simulated".to_owned(), true.into());
    let call = Call {
        id: sources.id_at(at),
        started_at: at,
        facts: CallFacts {
            app: Some(experiment.app.clone()),
            environment: Some(experiment.environment.clone()),
            manifest: Some(manifest.id()),
            prompt: Some(manifest.prompt_id.clone()),
            prompt_version: Some(manifest.prompt_version),
            model_id: Some(manifest.model_id.clone()),
            model_version: Some(manifest.model_version.clone()),
            experiment: arm.map(|_| experiment.name.clone()),
            arm: arm.map(|arm| arm.name.clone()),
            session: Some(format!("{user}-{}", at.as_second() / 1800)),
            unit: Some(user.clone()),
            tags,
            idempotency_key: None,
            request_hash: None,
            redacted: false,
            status: if fails {
                CallStatus::ProviderError
            } else {
                CallStatus::Ok
            },
            error_kind: fails.then(|| "server_error".to_owned()),
            finish_reason: (!fails).then(|| reason.to_owned()),
            tool_success: None,
            streamed: false,
            fallback: false,
            attempts: if fails { 3 } else { 1 },
            latency_us: Some(latency),
            first_byte_us: Some(latency),
            overhead_us: Some(random.u64(200..600)),
            usage: (!fails).then_some(usage),
            cost_nano_usd: (!fails).then_some(cost),
        },
        content: CallContent {
            variables,
            messages: vec![
                json!({"role": "system", "content": version.system}),
                json!({"role": "user", "content": ticket}),
            ],
            output: (!fails).then(|| answer.clone()),
            error: fails.then(|| "provider `demo` answered 503: overloaded".to_owned()),
            ..CallContent::default()
        },
    };
    let call_id = call.id.clone();
    events.push(NewEvent::Call(Box::new(call)));
    if fails || random.u32(0..100) >= GRADED {
        return;
    }
    let said = (at + SignedDuration::from_secs(random.i64(20..600))).min(now);
    add_feedback(events, version, (call_id, user, said), sources, random);
}

/// What a user says of a call.
fn add_feedback(
    events: &mut Vec<NewEvent>,
    version: &story::Version,
    (call_id, user, said): (String, String, Timestamp),
    sources: &Sources,
    random: &mut fastrand::Rng,
) {
    let mut say = |body| {
        events.push(NewEvent::Feedback(Box::new(Feedback {
            id: sources.id_at(said),
            call_id: call_id.clone(),
            body,
            author: Some(user.clone()),
            created_at: said,
        })));
    };
    let grade = version.grade(random.u32(0..100));
    say(FeedbackBody::Rating {
        value: f64::from(grade),
        scale: RatingScale::default(),
    });
    if random.u32(0..100) < 12 {
        let text = version.comment(grade, random.usize(0..16)).to_owned();
        say(FeedbackBody::Comment { text });
    }
}
