//! Tests of differences.

use serde_json::json;

use super::*;

fn content(value: Value) -> PromptContent {
    let mut whole = json!({
        "template_format": "fstring", "model_id": "m", "model_version": "1",
        "messages": [{"role": "user", "content": "x"}],
    });
    for (name, member) in value.as_object().unwrap() {
        whole[name] = member.clone();
    }
    PromptContent::from_json(whole).unwrap()
}

/// The difference as one line per change: field, before, after.
fn summary(before: Value, after: Value) -> Vec<String> {
    let (before, after) = (content(before), content(after));
    let difference = diff_prompts(&before, &after);
    assert_eq!(difference.is_empty(), before.id() == after.id());
    let back: PromptDiff = serde_json::from_value(json!(difference)).unwrap();
    assert_eq!(back, difference);
    let show = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
    let line = |change: &Change| {
        format!(
            "{}: {} > {}",
            change.field,
            show(&change.before),
            show(&change.after)
        )
    };
    difference.changes.iter().map(line).collect()
}

#[test]
fn fields() {
    let tool = |name: &str, strict: bool| json!({"type": "function", "function": {"name": name, "strict": strict}});
    for (before, after, expected) in [
        (json!({}), json!({}), vec![]),
        (
            json!({"model_version": "1"}),
            json!({"model_version": "2"}),
            vec![r#"model_version: "1" > "2""#],
        ),
        (
            json!({}),
            json!({"template_format": "jinja"}),
            vec![r#"template_format: "fstring" > "jinja""#],
        ),
        (
            json!({"params": {"temperature": 0.7, "seed": 1}}),
            json!({"params": {"temperature": 0.2, "top_k": 4}}),
            vec![
                "params.temperature: 0.7 > 0.2",
                "params.seed: 1 > -",
                "params.top_k: - > 4",
            ],
        ),
        (
            json!({"params": {"seed": 1}}),
            json!({}),
            vec!["params.seed: 1 > -"],
        ),
        (
            json!({"params": {"temperature": 1}}),
            json!({"params": {"temperature": 1.0}}),
            vec![],
        ),
        (
            json!({"tools": [tool("a", true), tool("b", true)]}),
            json!({"tools": [tool("b", false), tool("c", true)]}),
            vec![
                r#"tools.a: {"type":"function","function":{"name":"a","strict":true}} > -"#,
                "tools.b.function.strict: true > false",
                r#"tools.c: - > {"type":"function","function":{"name":"c","strict":true}}"#,
            ],
        ),
        (
            json!({"tools": [tool("a", true), tool("b", true)]}),
            json!({"tools": [tool("b", true), tool("a", true)]}),
            vec![r#"tools: ["a","b"] > ["b","a"]"#],
        ),
        (
            json!({"tools": [{"type": "search"}]}),
            json!({"tools": [{"type": "code"}, {"type": "search"}]}),
            vec![
                r#"tools[0].type: "search" > "code""#,
                r#"tools[1]: - > {"type":"search"}"#,
            ],
        ),
        (json!({"tools": []}), json!({}), vec!["tools: [] > -"]),
        (
            json!({"response_format": {"type": "text"}}),
            json!({"response_format": {"type": "json_object"}}),
            vec![r#"response_format.type: "text" > "json_object""#],
        ),
        (
            json!({"postprocess": [{"step": "trim"}]}),
            json!({"postprocess": [{"step": "trim"}, {"step": "json"}]}),
            vec![r#"postprocess[1]: - > {"step":"json"}"#],
        ),
        (
            json!({"postprocess": []}),
            json!({}),
            vec!["postprocess: [] > -"],
        ),
        (
            json!({"variables_schema": {"properties": {"a": {"type": "string"}, "b": {"const": null}}}}),
            json!({"variables_schema": {"properties": {"a": {"type": "integer"}, "b": {}}}}),
            vec![
                r#"variables_schema.properties.a.type: "string" > "integer""#,
                "variables_schema.properties.b.const: null > -",
            ],
        ),
    ] {
        assert_eq!(summary(before, after), expected);
    }
}

#[test]
fn messages_are_aligned() {
    let message = |role: &str, text: &str| json!({"role": role, "content": text});
    let (system, user) = (
        message("system", "Be terse."),
        message("user", "Sum up {text}"),
    );
    let all = |messages: &[Value]| json!({"messages": messages});
    for (before, after, expected) in [
        (
            all(&[system.clone(), user.clone()]),
            all(&[
                system.clone(),
                message("user", "q"),
                message("assistant", "a"),
                message("user", "Sum up {text}!"),
            ]),
            vec![
                r#"messages[1]: - > {"role":"user","content":"q"}"#,
                r#"messages[2]: - > {"role":"assistant","content":"a"}"#,
                r#"messages[3].content: "Sum up {text}" > "Sum up {text}!""#,
            ],
        ),
        (
            all(&[system.clone(), user.clone()]),
            all(std::slice::from_ref(&user)),
            vec![r#"messages[0]: {"role":"system","content":"Be terse."} > -"#],
        ),
        (
            all(&[system.clone(), user.clone()]),
            all(&[message("developer", "Be terse."), user.clone()]),
            vec![r#"messages[0].role: "system" > "developer""#],
        ),
        (
            all(&[message("system", "Be terse and kind."), user.clone()]),
            all(&[
                message("developer", "Be terse and very kind."),
                user.clone(),
            ]),
            vec![
                r#"messages[0].role: "system" > "developer""#,
                r#"messages[0].content: "Be terse and kind." > "Be terse and very kind.""#,
            ],
        ),
        (
            all(&[system.clone(), user.clone()]),
            all(&[
                system.clone(),
                json!({"role": "user", "content": "Else", "name": "Ada", "literal": true}),
            ]),
            vec![
                r#"messages[1].name: - > "Ada""#,
                "messages[1].literal: - > true",
                r#"messages[1].content: "Sum up {text}" > "Else""#,
            ],
        ),
    ] {
        assert_eq!(summary(before, after), expected);
    }
    let many = |word: &str| {
        let messages: Vec<_> = (0..200)
            .map(|n| message("user", &format!("{word} {n}")))
            .collect();
        all(&messages)
    };
    assert_eq!(summary(many("a"), many("b")).len(), 200);
}

/// A difference as text: `-`, `+` or a space before each line, changed pieces in brackets.
fn shown(before: &str, after: &str) -> String {
    let line = |line: &DiffLine| {
        let sign = match line.kind {
            DiffLineKind::Equal => ' ',
            DiffLineKind::Removed => '-',
            DiffLineKind::Added => '+',
            DiffLineKind::Skipped => return format!("…{}", line.count.unwrap()),
        };
        let piece = |span: &Span| {
            if span.changed {
                format!("[{}]", span.text)
            } else {
                span.text.clone()
            }
        };
        format!("{sign}{}", line.spans.iter().map(piece).collect::<String>())
    };
    diff_texts(before, after)
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("|")
}

#[test]
fn texts_are_compared_by_line_and_word() {
    let long = "1\n2\n3\n4\n5\n6\n7\n8\n9";
    for (before, after, expected) in [
        ("", "", String::new()),
        ("", "a\nb", "+a|+b".into()),
        ("a", "", "-a".into()),
        ("a", "a\n", " a|+".into()),
        ("a\r\nb", "a\nb", "-a[\r]|+a| b".into()),
        (
            "Write two short sentences.",
            "Write three short sentences.",
            "-Write [two] short sentences.|+Write [three] short sentences.".into(),
        ),
        (
            "the cat sat on a mat",
            "the big dog sat on a mat",
            "-the [cat] sat on a mat|+the [big dog] sat on a mat".into(),
        ),
        ("a b c d", "w x y z", "-a b c d|+w x y z".into()),
        (
            "Answer in English.",
            "Be kind.\nAnswer in French.",
            "-Answer in [English].|+Be kind.|+Answer in [French].".into(),
        ),
        (
            "请用两句话总结",
            "请用三句话总结",
            "-请用[两]句话总结|+请用[三]句话总结".into(),
        ),
        (long, &format!("{long}\n10"), "…6| 7| 8| 9|+10".into()),
        (
            long,
            &long.replace('5', "five"),
            "…1| 2| 3| 4|-5|+five| 6| 7| 8|…1"
                .replace("…1| 2", " 1| 2")
                .replace("8|…1", "8| 9"),
        ),
        (
            "x\n1\n2\n3\n4\n5\n6\n7\n8\ny",
            "X\n1\n2\n3\n4\n5\n6\n7\n8\nY",
            "-x|+X| 1| 2| 3|…2| 6| 7| 8|-y|+Y".into(),
        ),
    ] {
        assert_eq!(shown(before, after), expected, "{before:?} {after:?}");
    }
}

#[test]
fn large_texts_are_compared_in_bounded_time() {
    let lines = |word: &str, count: usize| -> String {
        (0..count)
            .map(|n| format!("{word} {}\n", n * 7919 % 1000))
            .collect()
    };
    for (before, after) in [
        (lines("a", 5000), lines("b", 5000)),
        (lines("a", 50_000), lines("b", 50_000)),
        ("a b ".repeat(100_000), "b c a ".repeat(100_000)),
        ("x".repeat(1_000_000), "y".repeat(1_000_000)),
    ] {
        let difference = diff_texts(&before, &after);
        let text = |kind: DiffLineKind| {
            let lines = difference.iter().filter(|line| line.kind == kind);
            let texts = lines.map(|line| line.spans.iter().map(|span| &*span.text).collect());
            texts.collect::<Vec<String>>().join("\n")
        };
        assert!(text(DiffLineKind::Removed).len() + 20 > before.len());
        assert!(text(DiffLineKind::Added).len() + 20 > after.len());
    }
    // What is the same at both ends stays out of it.
    let change = format!("{}x\n{}", lines("a", 50_000), lines("a", 50_000));
    assert_eq!(
        diff_texts(&lines("a", 100_000), &change).len(),
        1 + 2 * CONTEXT_AND_CHANGE
    );
}

/// Three lines of context, and what stands for the middle.
const CONTEXT_AND_CHANGE: usize = 4;

#[test]
fn manifests() {
    let manifest = |version: &str, index: Option<&str>| -> Manifest {
        serde_json::from_value(json!({
            "model_id": "m", "model_version": version, "prompt_id": "p", "prompt_version": "0".repeat(64),
            "retriever_index_version": index,
        }))
        .unwrap()
    };
    assert_eq!(
        diff_manifests(&manifest("1", None), &manifest("1", None)),
        []
    );
    let changes = diff_manifests(&manifest("1", None), &manifest("2", Some("i")));
    let expected = json!([
        {"member": "model_version", "before": "1", "after": "2"},
        {"member": "retriever_index_version", "before": null, "after": "i"},
    ]);
    assert_eq!(json!(changes), expected);
}
