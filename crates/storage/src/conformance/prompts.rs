//! Prompts: identity, order, search, labels, scores.

use flywheel_core::PromptName;
use flywheel_core::prompt::EvaluationScore;

use super::samples::{AWKWARD, at, content, name, new_version, registered};
use crate::StateStore;
use crate::prompts::{MatchedPart, NewPromptVersion, PromptMatch};

pub async fn registering_twice_is_one_version(store: &dyn StateStore) {
    let first = registered(store, "summary", "one").await;
    assert_eq!(first.version, content("one").id());
    assert_eq!(
        (first.ordinal, first.author.as_str(), first.created_at),
        (1, "ada", at(0))
    );
    assert_eq!(first.content, content("one"));

    let mut transaction = store.begin().await.unwrap();
    let again = NewPromptVersion {
        author: "bob".to_owned(),
        description: "other words".to_owned(),
        created_at: at(9),
        ..new_version("summary", "one")
    };
    let again = transaction.prompts().register(again).await.unwrap();
    assert!(!again.created);
    assert_eq!(again.version, first, "nothing about the version changes");
    let next = transaction
        .prompts()
        .register(new_version("summary", "two"))
        .await
        .unwrap();
    assert!(next.created);
    assert_eq!(next.version.ordinal, 2);
    let elsewhere = transaction
        .prompts()
        .register(new_version("other", "one"))
        .await
        .unwrap();
    assert!(
        elsewhere.created,
        "the same content is a version of each prompt that has it"
    );
    assert_eq!(
        (elsewhere.version.version, elsewhere.version.ordinal),
        (first.version, 1)
    );
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let read = session
        .prompts()
        .get(&first.prompt, &first.version)
        .await
        .unwrap();
    let names = session.prompts().named(&first.version).await.unwrap();
    assert_eq!(names, [(name("other"), 1), (name("summary"), 1)]);
    let names = session.prompts().named(&content("two").id()).await.unwrap();
    assert_eq!(names, [(name("summary"), 2)]);
    let names = session.prompts().named(&content("no").id()).await.unwrap();
    assert_eq!(names, []);
    assert_eq!(read, Some(first));
    let unknown = session
        .prompts()
        .get(&name("unknown"), &content("one").id())
        .await
        .unwrap();
    assert_eq!(unknown, None);
}

pub async fn ordinals_count_registrations(store: &dyn StateStore) {
    let prompt: PromptName = name("summary");
    for number in 1..=7 {
        let mut version = new_version("summary", &format!("v{number}"));
        // The clock runs backwards; order is that of registration all the same.
        version.created_at = at(-number);
        let mut transaction = store.begin().await.unwrap();
        transaction.prompts().register(version).await.unwrap();
        transaction.commit().await.unwrap();
    }
    let mut session = store.read().await.unwrap();
    let mut prompts = session.prompts();
    assert_eq!(
        prompts.latest(&prompt).await.unwrap().unwrap().content,
        content("v7")
    );
    assert_eq!(prompts.latest(&name("unknown")).await.unwrap(), None);
    for ordinal in 1..=7 {
        let version = prompts
            .get_by_ordinal(&prompt, ordinal)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(version.content, content(&format!("v{ordinal}")));
    }
    for ordinal in [0, 8, u64::MAX] {
        assert_eq!(
            prompts.get_by_ordinal(&prompt, ordinal).await.unwrap(),
            None
        );
    }
    for (before, limit, expected) in [
        (None, 3, vec![7, 6, 5]),
        (Some(5), 3, vec![4, 3, 2]),
        (Some(2), 3, vec![1]),
        (Some(1), 3, vec![]),
    ] {
        let page = prompts.history(&prompt, before, limit).await.unwrap();
        let ordinals: Vec<u64> = page.iter().map(|version| version.ordinal).collect();
        assert_eq!(ordinals, expected, "before {before:?}");
    }
}

pub async fn versions_are_found_by_prefix(store: &dyn StateStore) {
    let prompt: PromptName = name("summary");
    let version = registered(store, "summary", "one").await;
    registered(store, "other", "two").await;
    let hash = version.version.to_string();
    let mut session = store.read().await.unwrap();
    let mut prompts = session.prompts();
    for prefix in [&hash[..12], &hash[..13], hash.as_str()] {
        let found = prompts.find_by_prefix(&prompt, prefix).await.unwrap();
        assert_eq!(found, vec![version.clone()], "{prefix}");
    }
    for prefix in [
        "zzzzzzzzzzzz",
        "%",
        "_",
        "' OR 1=1 --",
        &content("two").id().to_string()[..12],
    ] {
        let found = prompts.find_by_prefix(&prompt, prefix).await.unwrap();
        assert_eq!(found, vec![], "{prefix}");
    }
    drop(prompts);
    drop(session);
    for number in 0..12 {
        registered(store, "summary", &number.to_string()).await;
    }
    let mut session = store.read().await.unwrap();
    let found = session.prompts().find_by_prefix(&prompt, "").await.unwrap();
    assert_eq!(found.len(), 10, "at most ten are named");
}

pub async fn prompts_are_listed_and_searched(store: &dyn StateStore) {
    for (prompt, text) in [
        ("beta", "Say \"Hello\" to {{ user }}"),
        ("alpha", "an old text"),
        ("alpha", "the newest text"),
        ("team/gamma:v1", "100%_sure 用户"),
    ] {
        registered(store, prompt, text).await;
    }
    let older = registered(store, "beta", "x").await;
    let newer = NewPromptVersion {
        description: "Made it Übersichtlich".to_owned(),
        ..new_version("beta", "y")
    };
    let mut transaction = store.begin().await.unwrap();
    transaction.prompts().register(newer).await.unwrap();
    let label = name("reviewed-by-ada");
    transaction
        .prompts()
        .set_label(&older.prompt, &older.version, &label)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let mut session = store.read().await.unwrap();
    let mut prompts = session.prompts();
    for (text, expected) in [
        ("", None),
        ("beta", None),
        ("\"HELLO\"", Some((1, MatchedPart::Description))),
        ("gpt-4O", Some((3, MatchedPart::Content))),
        ("made it Über", Some((3, MatchedPart::Description))),
        ("by-ADA", Some((2, MatchedPart::Label))),
        ("says ", Some((2, MatchedPart::Description))),
    ] {
        let found = prompts.list(text, None, 10).await.unwrap();
        let beta = found.iter().find(|prompt| prompt.name.as_str() == "beta");
        let matched = beta.unwrap().matched.as_ref();
        let place = matched.map(|matched| (matched.ordinal, matched.part));
        assert_eq!(place, expected, "{text}");
        if let Some(PromptMatch { version, .. }) = matched.filter(|matched| matched.ordinal == 2) {
            assert_eq!(version, &older.version);
        }
    }
    for (text, expected) in [
        ("", vec!["alpha", "beta", "team/gamma:v1"]),
        ("ALPHA", vec!["alpha"]),
        ("newest TEXT", vec!["alpha"]),
        ("old text", vec!["alpha"]),
        ("you ARE", vec!["alpha", "beta", "team/gamma:v1"]),
        ("\"hello\"", vec!["beta"]),
        ("%_", vec!["team/gamma:v1"]),
        ("用户", vec!["team/gamma:v1"]),
        ("template_format", vec![]),
        ("' OR 1=1 --", vec![]),
    ] {
        let found = prompts.list(text, None, 10).await.unwrap();
        let names: Vec<&str> = found.iter().map(|prompt| prompt.name.as_str()).collect();
        assert_eq!(names, expected, "{text}");
    }
    let first = prompts.list("", None, 2).await.unwrap();
    assert_eq!(first.len(), 2);
    assert_eq!((first[0].versions, first[0].updated_at), (2, at(0)));
    assert_eq!(first[0].latest, content("the newest text").id());
    let rest = prompts.list("", Some(&first[1].name), 2).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].name.as_str(), "team/gamma:v1");
}

pub async fn labels_move_between_versions(store: &dyn StateStore) {
    let prompt: PromptName = name("summary");
    let first = registered(store, "summary", "one").await;
    let second = registered(store, "summary", "two").await;
    let (stable, beta) = (name("stable"), name("beta"));

    let mut transaction = store.begin().await.unwrap();
    transaction
        .prompts()
        .set_label(&prompt, &first.version, &stable)
        .await
        .unwrap();
    transaction
        .prompts()
        .set_label(&prompt, &first.version, &beta)
        .await
        .unwrap();
    transaction
        .prompts()
        .set_label(&prompt, &second.version, &stable)
        .await
        .unwrap();
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let history = session.prompts().history(&prompt, None, 10).await.unwrap();
    assert_eq!(history[0].labels, vec![stable.clone()]);
    assert_eq!(history[1].labels, vec![beta.clone()]);
    drop(session);

    let mut transaction = store.begin().await.unwrap();
    assert!(
        transaction
            .prompts()
            .remove_label(&prompt, &stable)
            .await
            .unwrap()
    );
    assert!(
        !transaction
            .prompts()
            .remove_label(&prompt, &stable)
            .await
            .unwrap()
    );
    assert!(
        !transaction
            .prompts()
            .remove_label(&name("other"), &beta)
            .await
            .unwrap()
    );
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let second = session
        .prompts()
        .get(&prompt, &second.version)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(second.labels, vec![]);
    let first = session
        .prompts()
        .get_by_ordinal(&prompt, 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.labels, vec![beta]);
}

pub async fn scores_are_kept_newest_first(store: &dyn StateStore) {
    let version = registered(store, "summary", "one").await;
    let score = |metric: &str, value, seconds| EvaluationScore {
        metric: metric.to_owned(),
        value,
        n: 40,
        dataset: (seconds % 2 == 0).then(|| "gold@abc".to_owned()),
        recorded_at: at(seconds),
    };
    let scores = [
        score("exact_match", 0.1 + 0.2, 2),
        score("exact_match", -1e-300, 1),
        score("rouge", 5.0, 2),
    ];
    let mut transaction = store.begin().await.unwrap();
    for score in &scores {
        let mut prompts = transaction.prompts();
        prompts
            .add_score(&version.prompt, &version.version, score)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let [first, old, last] = scores;
    let read = session
        .prompts()
        .scores(&version.prompt, &version.version)
        .await
        .unwrap();
    assert_eq!(
        read,
        vec![last, first, old],
        "the one added last comes first within one moment"
    );
    let unknown = session
        .prompts()
        .scores(&name("other"), &version.version)
        .await
        .unwrap();
    assert_eq!(unknown, vec![]);
}

pub async fn any_text_survives(store: &dyn StateStore) {
    let huge = "long 用户\n".repeat(200_000);
    for text in ["", AWKWARD, huge.as_str()] {
        let new = NewPromptVersion {
            author: text.to_owned(),
            description: text.to_owned(),
            ..new_version("summary", text)
        };
        let mut transaction = store.begin().await.unwrap();
        let registered = transaction
            .prompts()
            .register(new.clone())
            .await
            .unwrap()
            .version;
        transaction.commit().await.unwrap();
        let mut session = store.read().await.unwrap();
        let read = session
            .prompts()
            .latest(&new.prompt)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(read, registered);
        assert_eq!(
            (read.author, read.description),
            (new.author, new.description)
        );
        assert_eq!(read.content, new.content);
        assert_eq!(
            read.content.id(),
            read.version,
            "what is read back has the id it was kept by"
        );
    }
}
