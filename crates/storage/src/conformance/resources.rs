//! Models, retriever indexes, apps, manifests, deployments, experiments, keys.

use flywheel_core::deployment::{App, AppSettings, DeploymentKind};
use flywheel_core::experiment::{
    Arm, Decision, Epoch, Experiment, ExperimentStatus, StoppedArm, UnitKind,
};
use flywheel_core::key::{ApiKey, Role};
use flywheel_core::manifest::RequiredMember;
use flywheel_core::metric::starter_set;
use flywheel_core::model::{ModelAlias, ModelSettings, ModelVersion, Price};
use flywheel_core::name::EnvironmentName;
use flywheel_core::plan::{Effect, Plan, PlanChange};
use flywheel_core::retriever::{IndexState, RetrieverIndex};
use flywheel_core::{AppName, ContentHash, Manifest};

use super::samples::{AWKWARD, at, manifest, name, new_deployment};
use serde_json::json;

use crate::StateStore;
use crate::deployments::NewDeployment;

pub async fn models_are_replaced_and_keep_their_age(store: &dyn StateStore) {
    let model = |id: &str, version: &str, seconds| ModelVersion {
        model_id: name(id),
        model_version: name(version),
        settings: ModelSettings {
            provider: name("openai"),
            provider_model: format!("{version} {AWKWARD}"),
            price: Some(Price {
                input: 0.15,
                output: 0.6,
                cached_input: Some(0.075),
            }),
        },
        created_at: at(seconds),
    };
    let mut corrected = model("b", "2", 1);
    let mut transaction = store.begin().await.unwrap();
    for model in [
        model("b", "1", 2),
        corrected.clone(),
        model("a", "9", 0),
        model("b", "3", 2),
    ] {
        transaction.models().put(&model).await.unwrap();
    }
    corrected.settings.price = None;
    corrected.settings.provider = name("azure");
    let later = ModelVersion {
        created_at: at(99),
        ..corrected.clone()
    };
    transaction.models().put(&later).await.unwrap();
    let alias = |alias: &str, version: &str| ModelAlias {
        model_id: name("b"),
        alias: name(alias),
        model_version: name(version),
    };
    for alias in [
        alias("stable", "1"),
        alias("beta", "2"),
        alias("stable", "2"),
    ] {
        transaction.models().put_alias(&alias).await.unwrap();
    }
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let mut models = session.models();
    let read = models.get(&name("b"), &name("2")).await.unwrap();
    assert_eq!(
        read,
        Some(corrected),
        "settings are replaced, the age stays"
    );
    assert_eq!(models.get(&name("b"), &name("9")).await.unwrap(), None);
    let listed: Vec<String> = models
        .list()
        .await
        .unwrap()
        .iter()
        .map(|model| format!("{}:{}", model.model_id, model.model_version))
        .collect();
    assert_eq!(listed, ["a:9", "b:3", "b:1", "b:2"]);
    assert_eq!(
        models.aliases().await.unwrap(),
        vec![alias("beta", "2"), alias("stable", "2")]
    );
}

pub async fn retriever_indexes_change_state(store: &dyn StateStore) {
    let index = |version: &str, seconds| RetrieverIndex {
        version: name(version),
        index: name("docs"),
        state: IndexState::Available,
        created_at: at(seconds),
    };
    let mut transaction = store.begin().await.unwrap();
    for index in [index("v1", 0), index("v2", 1), index("v3", 1)] {
        transaction.retrievers().put(&index).await.unwrap();
    }
    let moved = IndexState::MigratedForward { to: name("v2") };
    let moved = RetrieverIndex {
        state: moved,
        ..index("v1", 50)
    };
    transaction.retrievers().put(&moved).await.unwrap();
    let dropped = RetrieverIndex {
        state: IndexState::Dropped,
        ..index("v2", 1)
    };
    transaction.retrievers().put(&dropped).await.unwrap();
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let moved = RetrieverIndex {
        created_at: at(0),
        ..moved
    };
    let mut retrievers = session.retrievers();
    assert_eq!(
        retrievers.get(&name("v1")).await.unwrap().as_ref(),
        Some(&moved)
    );
    assert_eq!(retrievers.get(&name("v9")).await.unwrap(), None);
    assert_eq!(
        retrievers.list().await.unwrap(),
        vec![index("v3", 1), dropped, moved]
    );
}

pub async fn apps_are_replaced_and_keep_their_age(store: &dyn StateStore) {
    let app = |app: &str, seconds| App {
        name: name(app),
        settings: AppSettings::default(),
        created_at: at(seconds),
    };
    let changed = AppSettings {
        description: AWKWARD.to_owned(),
        environments: vec![name("dev"), name("live")],
        required_members: vec![RequiredMember::GuardsVersion],
        fallback_manifest: Some(ContentHash::of_bytes(b"fallback")),
        metrics: Some(starter_set()),
    };
    let mut transaction = store.begin().await.unwrap();
    for app in [app("b", 0), app("a", 1)] {
        transaction.deployments().put_app(&app).await.unwrap();
    }
    let changed = App {
        settings: changed,
        ..app("b", 77)
    };
    transaction.deployments().put_app(&changed).await.unwrap();
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let changed = App {
        created_at: at(0),
        ..changed
    };
    let mut deployments = session.deployments();
    assert_eq!(
        deployments.get_app(&name("b")).await.unwrap().as_ref(),
        Some(&changed)
    );
    assert_eq!(deployments.get_app(&name("c")).await.unwrap(), None);
    assert_eq!(
        deployments.list_apps().await.unwrap(),
        vec![app("a", 1), changed]
    );
}

pub async fn manifests_are_kept_once(store: &dyn StateStore) {
    let plain = manifest("summary", ContentHash::of_bytes(b"1"));
    let whole = Manifest {
        retriever_index_version: Some(name("docs-7")),
        guards_version: Some(name("g/2")),
        ..plain.clone()
    };
    let mut transaction = store.begin().await.unwrap();
    for manifest in [&plain, &whole, &plain] {
        transaction
            .deployments()
            .put_manifest(manifest, at(0))
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let mut deployments = session.deployments();
    for manifest in [&plain, &whole] {
        let id = manifest.id();
        assert_eq!(
            deployments.get_manifest(&id).await.unwrap().as_ref(),
            Some(manifest)
        );
        let found = deployments
            .find_manifests(&id.to_string()[..12])
            .await
            .unwrap();
        assert_eq!(found, vec![manifest.clone()]);
    }
    assert_eq!(
        deployments
            .get_manifest(&ContentHash::of_bytes(b"?"))
            .await
            .unwrap(),
        None
    );
    assert_eq!(deployments.find_manifests("").await.unwrap().len(), 2);
    assert_eq!(deployments.find_manifests("%").await.unwrap(), vec![]);
}

pub async fn newest_deployment_is_current(store: &dyn StateStore) {
    let (first, second) = (ContentHash::of_bytes(b"1"), ContentHash::of_bytes(b"2"));
    let new = [
        new_deployment("a", "production", first),
        new_deployment("a", "staging", second),
        NewDeployment {
            previous_manifest: Some(first),
            kind: DeploymentKind::Rollback,
            reason: AWKWARD.to_owned(),
            forced_over: vec!["no evaluation".to_owned(), String::new()],
            // A clock that runs backwards does not make it older.
            created_at: at(-50),
            ..new_deployment("a", "production", second)
        },
        new_deployment("b", "production", first),
    ];
    let mut made = Vec::new();
    for deployment in new.clone() {
        let mut transaction = store.begin().await.unwrap();
        made.push(transaction.deployments().append(deployment).await.unwrap());
        transaction.commit().await.unwrap();
    }
    let numbers: Vec<u64> = made.iter().map(|deployment| deployment.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(
        (made[2].created_at, made[2].kind),
        (at(-50), DeploymentKind::Rollback)
    );
    assert_eq!(made[2].forced_over, new[2].forced_over);
    assert_eq!(
        (&made[2].reason, made[2].previous_manifest),
        (&new[2].reason, Some(first))
    );

    let (app, production): (AppName, EnvironmentName) = (name("a"), name("production"));
    let mut session = store.read().await.unwrap();
    let mut deployments = session.deployments();
    let current = deployments.current(&app, &production).await.unwrap();
    assert_eq!(current.as_ref(), Some(&made[2]));
    assert_eq!(deployments.current(&app, &name("dev")).await.unwrap(), None);
    let mut current = deployments.all_current().await.unwrap();
    current.sort_by_key(|deployment| deployment.number);
    assert_eq!(current, made[1..]);
    for (environment, before, limit, expected) in [
        (None, None, 10, vec![3, 2, 1]),
        (Some(&production), None, 10, vec![3, 1]),
        (None, Some(3), 1, vec![2]),
        (Some(&production), Some(1), 10, vec![]),
    ] {
        let page = deployments
            .history(&app, environment, before, limit)
            .await
            .unwrap();
        let numbers: Vec<u64> = page.iter().map(|deployment| deployment.number).collect();
        assert_eq!(numbers, expected);
    }
}

pub async fn uses_of_a_prompt_are_found(store: &dyn StateStore) {
    let (old, new) = (ContentHash::of_bytes(b"old"), ContentHash::of_bytes(b"new"));
    let manifests = [
        manifest("summary", old),
        manifest("summary", new),
        manifest("other", old),
    ];
    let [first, second, third] = [manifests[0].id(), manifests[1].id(), manifests[2].id()];
    let mut transaction = store.begin().await.unwrap();
    for manifest in &manifests {
        transaction
            .deployments()
            .put_manifest(manifest, at(0))
            .await
            .unwrap();
    }
    for (second_of_day, environment, manifest) in [
        (1, "production", first),
        (2, "production", second),
        (3, "production", first),
        (4, "staging", second),
        (5, "staging", third),
    ] {
        let deployment = NewDeployment {
            created_at: at(second_of_day),
            ..new_deployment("a", environment, manifest)
        };
        transaction.deployments().append(deployment).await.unwrap();
    }
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let mut deployments = session.deployments();
    let mut uses = Vec::new();
    for place in deployments
        .uses_of_prompt(&name("summary"), None)
        .await
        .unwrap()
    {
        assert_eq!(place.app.as_str(), "a");
        let environment = place.environment.to_string();
        uses.push((
            environment,
            place.prompt_version,
            place.current,
            place.deployed_at,
        ));
    }
    uses.sort();
    let mut expected = vec![
        ("production".to_owned(), old, true, at(3)),
        ("production".to_owned(), new, false, at(2)),
        ("staging".to_owned(), new, false, at(4)),
    ];
    expected.sort();
    assert_eq!(uses, expected);
    let of_version = deployments
        .uses_of_prompt(&name("summary"), Some(&old))
        .await
        .unwrap();
    assert_eq!(of_version.len(), 1);
    assert_eq!(of_version[0].manifest, first);
    assert_eq!(
        deployments
            .uses_of_prompt(&name("unknown"), None)
            .await
            .unwrap(),
        vec![]
    );
}

pub async fn experiments_are_replaced(store: &dyn StateStore) {
    let arm = |arm: &str, weight| Arm {
        name: name(arm),
        manifest: Some(ContentHash::of_bytes(arm.as_bytes())),
        weight,
    };
    let draft = |experiment: &str, seconds| Experiment {
        name: name(experiment),
        app: name("a"),
        environment: name("production"),
        hypothesis: AWKWARD.to_owned(),
        salt: "salt".to_owned(),
        unit: UnitKind::Session,
        layer: "a/production".to_owned(),
        layer_share: 10_000,
        layer_offset: 0,
        arms: vec![arm("z", 9000), arm("a", 1000)],
        exposure: 1,
        status: ExperimentStatus::Draft,
        created_at: at(seconds),
        started_at: None,
        stopped_at: None,
        plan: Plan::unplanned(name("z"), starter_set()),
        plan_hash: None,
        plan_changes: Vec::new(),
        epochs: Vec::new(),
        decision: None,
    };
    let running = Experiment {
        status: ExperimentStatus::Stopped,
        exposure: 5000,
        layer_offset: 77,
        started_at: Some(at(5)),
        stopped_at: Some(at(6)),
        plan: Plan {
            primary: Some(name("rating")),
            mde: Some(Effect::Relative(0.05)),
            ..draft("tone", 0).plan
        },
        plan_hash: Some(ContentHash::of_bytes(b"plan")),
        plan_changes: vec![PlanChange {
            at: at(5),
            by: "ada".to_owned(),
            changed: vec!["mde".to_owned()],
            before: ContentHash::of_bytes(b"before"),
        }],
        epochs: vec![Epoch {
            since: at(5),
            weights: vec![9000, 1000],
            exposure: 5000,
            stopped_arm: Some(StoppedArm {
                arm: name("a"),
                reason: AWKWARD.to_owned(),
            }),
        }],
        decision: Some(Decision {
            by: "ada".to_owned(),
            reason: AWKWARD.to_owned(),
            promoted: Some(name("a")),
            readout: Some(json!({"verdict": "better"})),
        }),
        ..draft("tone", 0)
    };
    let mut transaction = store.begin().await.unwrap();
    for experiment in [&draft("tone", 0), &draft("length", 1), &running] {
        transaction.experiments().put(experiment).await.unwrap();
    }
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let mut experiments = session.experiments();
    assert_eq!(
        experiments.get(&name("tone")).await.unwrap().as_ref(),
        Some(&running)
    );
    assert_eq!(experiments.get(&name("none")).await.unwrap(), None);
    assert_eq!(
        experiments.list().await.unwrap(),
        vec![draft("length", 1), running]
    );
    assert_eq!(experiments.running().await.unwrap(), []);
    drop(experiments);
    drop(session);

    let started = Experiment {
        status: ExperimentStatus::Running,
        ..draft("length", 1)
    };
    let mut transaction = store.begin().await.unwrap();
    transaction.experiments().put(&started).await.unwrap();
    transaction.commit().await.unwrap();
    let mut session = store.read().await.unwrap();
    let found = session.experiments().running().await.unwrap();
    assert_eq!(found, [started]);
}

pub async fn keys_are_revoked_once(store: &dyn StateStore) {
    let key = |id: &str, role, apps: &[&str], seconds| ApiKey {
        id: id.to_owned(),
        name: format!("{id} {AWKWARD}"),
        role,
        apps: apps.iter().map(|app| name(app)).collect(),
        secret_hash: ContentHash::of_bytes(id.as_bytes()),
        created_at: at(seconds),
        revoked_at: None,
    };
    let (first, second) = (
        key("k1", Role::Admin, &[], 0),
        key("k2", Role::App, &["a", "b"], 1),
    );
    let mut transaction = store.begin().await.unwrap();
    transaction.keys().add(&first).await.unwrap();
    transaction.keys().add(&second).await.unwrap();
    transaction.commit().await.unwrap();

    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.keys().revoke("k1", at(8)).await.unwrap());
    assert!(
        !transaction.keys().revoke("k1", at(9)).await.unwrap(),
        "it was revoked before"
    );
    assert!(!transaction.keys().revoke("k3", at(9)).await.unwrap());
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let first = ApiKey {
        revoked_at: Some(at(8)),
        ..first
    };
    assert_eq!(session.keys().list().await.unwrap(), vec![second, first]);
}
