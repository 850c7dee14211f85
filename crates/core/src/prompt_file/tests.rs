//! Tests of prompt files: reading, writing back, and the places of mistakes.

use super::*;

const EXAMPLE: &str = r#"---
prompt: support/summary
model: gpt-4o-mini:2024-07-18
format: fstring
description: Ask for two sentences  # a comment
labels: [candidate]
params: {temperature: 0.7, max_tokens: 200, stop: ["\n\n"], seed: 7, top_k: 40}
tools:
  - type: function
    function: {name: look_up, parameters: {type: object, properties: {b: {const: ~}, a: {}}}}
postprocess: [{step: trim}]
---

# system
You are terse.

# user (name=Ada)

Summarize: {text}

## A heading of the text
# assistant (literal)
{"ok": true}
"#;

fn content_with(messages: Value) -> PromptContent {
    PromptContent::from_json(json!({
        "template_format": "fstring", "messages": messages,
        "model_id": "m", "model_version": "1",
    }))
    .unwrap()
}

fn round_trip(content: &PromptContent) {
    let file = PromptFile {
        name: "p".parse().unwrap(),
        description: None,
        labels: Vec::new(),
        content: content.clone(),
    };
    let text = format(&file);
    match parse(&text) {
        Ok(read) => assert_eq!(read, file, "{text}"),
        Err(error) => panic!("{error}\n{text}"),
    }
    // The same file as an editor on Windows leaves it.
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(parse(&windows).as_ref(), Ok(&file), "{windows:?}");
}

#[test]
fn a_file_is_read() {
    let file = parse(EXAMPLE).unwrap();
    assert_eq!(file.name.as_str(), "support/summary");
    assert_eq!(file.description.as_deref(), Some("Ask for two sentences"));
    assert_eq!(file.labels, ["candidate".parse().unwrap()]);
    let expected = json!({
        "template_format": "fstring",
        "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "name": "Ada",
             "content": "Summarize: {text}\n\n## A heading of the text"},
            {"role": "assistant", "content": "{\"ok\": true}", "literal": true},
        ],
        "model_id": "gpt-4o-mini", "model_version": "2024-07-18",
        "params": {"temperature": 0.7, "max_tokens": 200, "stop": ["\n\n"], "seed": 7, "top_k": 40},
        "tools": [{"type": "function", "function": {"name": "look_up",
            "parameters": {"type": "object", "properties": {"b": {"const": null}, "a": {}}}}}],
        "postprocess": [{"step": "trim"}],
    });
    assert_eq!(file.content.to_json(), expected);
    let tools = json!(file.content.tools).to_string();
    assert!(
        tools.find("\"b\"") < tools.find("\"a\""),
        "order is kept: {tools}"
    );
    assert_eq!(parse(&format(&file)), Ok(file));
}

#[test]
fn the_published_check_value_holds() {
    let text = "---\nprompt: p\nmodel: gpt-4o-mini:2024-07-18\n\
        params: {temperature: 0.7, max_tokens: 200}\n---\n# user\nSummarize: {text}\n";
    assert!(
        parse(text)
            .unwrap()
            .content
            .id()
            .to_string()
            .starts_with("dc7f6dd96879")
    );
}

#[test]
fn awkward_texts_are_written_and_read_back() {
    let texts = [
        "",
        "\n",
        "\n\n",
        "a\n",
        "\na",
        "a\n\n\nb",
        "  ",
        " \n ",
        "\t",
        "# user",
        "\\# user",
        "\\\\# user",
        "# user ",
        "# user (literal)",
        "# user (what)",
        "# user(x)",
        "# user (x) y",
        "# users",
        "# User (literal)",
        "\\# asistant",
        "## user",
        "---",
        "a\n---\nb",
        "a\n# system\nb\n\n\\# developer\n",
        "\n# assistant",
        "\r",
        "a\r\nb",
        "\r\n",
        "\"",
        "{\"a\": 1}",
        "\\",
        "\u{feff}",
        "é\u{2028}\u{85}\u{b}\u{c}\0",
        "用户",
        "# user\n",
        "\n\n# user\n\n",
        "# user (verbatim)",
        "# user (json)",
        "\"x\"",
        "x  \n",
        "  x",
        "\n ",
        "# user\u{a0}",
    ];
    let message = |role: &str, text: &str| json!({"role": role, "content": text, "literal": true});
    for first in texts {
        for second in texts {
            round_trip(&content_with(json!([
                message("user", first),
                message("system", second)
            ])));
        }
        round_trip(&content_with(json!([message("developer", first)])));
    }
}

#[test]
fn made_up_texts_are_written_and_read_back() {
    let pieces = [
        "\n",
        "\n",
        "# user",
        "# assistant (literal)",
        "\\",
        " ",
        "x",
        "\r\n",
        "---",
        "(json)",
        "é",
    ];
    let mut state = 1_u64;
    let mut below = |limit: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 40).unwrap() % limit
    };
    for _ in 0..2000 {
        let messages: Vec<_> = (0..=below(3))
            .map(|_| {
                let text: String = (0..below(9)).map(|_| pieces[below(pieces.len())]).collect();
                json!({"role": "user", "content": text, "literal": true})
            })
            .collect();
        round_trip(&content_with(messages.into()));
    }
}

#[test]
fn options_of_messages_are_written_and_read_back() {
    for name in [
        "Ada", "", "a, b)", "\"", "x\ny", "é", "literal", " a ", "\\", "a=b", "(", "1",
    ] {
        for literal in [None, Some(true), Some(false)] {
            for text in ["x", "x\n", "x\r"] {
                round_trip(&content_with(json!([
                    {"role": "assistant", "content": text, "name": name, "literal": literal},
                ])));
            }
        }
    }
}

#[test]
fn awkward_members_are_written_and_read_back() {
    let texts = [
        "yes",
        "no: x",
        "1e3",
        "1",
        "0123",
        "~",
        "null",
        "",
        " a",
        "a ",
        "#x",
        "a #b",
        "- x",
        "a\nb",
        "a\n",
        "\n",
        "\r\n",
        "a\t",
        "---",
        "...",
        "\u{feff}",
        "\u{7f}\u{85}\u{2028}",
        "\0",
        "12:30:45",
        ".inf",
        "<<",
        "!t",
        "&a",
        "*a",
        "%",
        "@",
        "`",
        "? x",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "😀",
        "2024-01-01",
        "0x1F",
        "1_000",
        "{a}",
        "[a]",
        "a,b",
        "   \n x\n",
        "a\n---\nb",
        "true",
        "on",
    ];
    let long = [
        "word ".repeat(60),
        "y".repeat(300),
        format!("a\n  {}\n", "w ".repeat(200)),
    ];
    for text in texts.into_iter().chain(long.iter().map(String::as_str)) {
        let mut content = content_with(json!([{"role": "user", "content": "x"}]));
        content.params.stop = Some(vec![text.to_owned(), "x".to_owned()]);
        content.tools = Some(vec![
            json!({"type": "function", text: {"parameters": {text: [text, null]}}}),
        ]);
        round_trip(&content);
        let file = PromptFile {
            name: "123".parse().unwrap(),
            description: Some(text.to_owned()),
            labels: vec!["1".parse().unwrap(), "yes".parse().unwrap()],
            content,
        };
        assert_eq!(parse(&format(&file)), Ok(file));
    }
    for number in [
        "0",
        "-1",
        "1.0",
        "0.1",
        "1e300",
        "5e-324",
        "18446744073709551615",
        "-9223372036854775808",
    ] {
        let mut content = content_with(json!([{"role": "user", "content": "x"}]));
        let number: Value = serde_json::from_str(number).unwrap();
        content
            .params
            .further
            .insert("x".into(), json!({"deep": [[number]]}));
        content.model_version = "a:b".parse().unwrap();
        round_trip(&content);
    }
}

#[test]
fn deep_members_are_read_or_refused() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!("---\nprompt: p\nmodel: m:1\nresponse_format: {open}1{close}\n---\n# user\nx\n")
    };
    assert!(parse(&nested(60)).is_ok());
    check_mistake(&nested(70), "4:81 nested more than 64 deep");
    check_mistake(&nested(5000), "4:273 recursion limit exceeded");
}

/// The mistakes that reading finds, as `line:column message`.
fn mistakes(text: &str) -> Vec<String> {
    let shown = |mistake: PromptFileError| {
        let (line, column) = (mistake.line, mistake.column);
        format!("{line}:{column} {}", mistake.message)
    };
    let mistakes = parse_all(text).unwrap_err();
    mistakes.into_iter().map(shown).collect()
}

/// Checks that reading finds a mistake that begins as expected after `line:column `.
fn check_mistake(text: &str, expected: &str) {
    let found = mistakes(text);
    assert!(
        found.iter().any(|mistake| mistake.starts_with(expected)),
        "{text}\n{found:?}"
    );
    assert!(!found.iter().any(|mistake| mistake.contains("at line")));
}

#[test]
fn mistakes_that_do_not_follow_from_others_are_all_found() {
    let text = "---\nprompt: p q\nmodel: gpt\nparms: {}\nqqqq: 1\nlabels: [a, 'b c']\n\
        params: {temperature: 7, top_p: 0}\ntools: [{}]\n---\n\
        # user\nHello {name\n# system (litteral)\n# user\n}\n";
    let expected = [
        "2:1 prompt `p q` is not valid",
        "3:1 `gpt` names no version",
        "4:1 unknown member `parms`",
        "5:1 unknown member `qqqq`",
        "6:13 label `b c` is not valid",
        "7:10 `params.temperature` must lie",
        "7:26 `params.top_p` must lie",
        "8:9 `tools[0].type` must be given",
        "12:11 unknown option `litteral`",
    ];
    let found = mistakes(text);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    assert_eq!(parse(text).unwrap_err().line, 2);

    // With headings that can be read, the templates are looked at as well, each for itself.
    let found = mistakes(&text.replace("litteral", "literal"));
    let templates: Vec<&str> = found[8..].iter().map(String::as_str).collect();
    assert_eq!(
        templates,
        [
            "11:7 `{` is not closed; write `{{` for a brace",
            "14:1 single `}`; write `}}` for a brace"
        ]
    );
}

#[test]
fn mistakes_at_the_top_have_a_place() {
    for (text, expected) in [
        ("", "1:1 the file is empty"),
        ("# user\nx", "1:1 a prompt file begins with a line `---`"),
        ("---\nprompt: p\n", "1:1 the front matter is not closed"),
        (
            "---\n---\n# user\n",
            "1:1 the front matter must have the member `prompt`",
        ),
        (
            "---\nprompt: p\n---\n",
            "1:1 the front matter must have the member `model`",
        ),
        ("---\n- a\n---\n", "2:1 the front matter must have members"),
        (
            "---\nprompt: p q\n---\n",
            "2:1 prompt `p q` is not valid: use 1 to 128",
        ),
        (
            "---\nprompt: 12\n---\n",
            "2:1 `prompt` must be a text; put it in quotes",
        ),
        (
            "---\nprompt: p\nmodel: gpt\n---\n",
            "3:1 `gpt` names no version; write the model as `gpt:v",
        ),
        (
            "---\nprompt: p\nmodel: {id: a, vers: b}\n---\n",
            "3:16 unknown member `vers`; did you mean `version`?",
        ),
    ] {
        check_mistake(text, expected);
    }
}

#[test]
fn mistakes_in_members_have_a_place() {
    for (members, expected) in [
        (
            "parms: {}",
            "4:1 unknown member `parms`; did you mean `params`?",
        ),
        (
            "temperature: 1",
            "4:1 unknown member `temperature`; did you mean `params.temperature`?",
        ),
        (
            "qqqq: 1",
            "4:1 unknown member `qqqq`; known are `prompt`, `model`, ",
        ),
        ("model: m:2", "4:1 duplicate mapping key"),
        ("tools: [", "4:8 unclosed bracket"),
        ("params: {seed: 1,\n  seed: 2}", "5:3 duplicate mapping key"),
        (
            "params:\n  top_p: 1.5",
            "5:3 `params.top_p` must lie above 0 and at most 1",
        ),
        (
            "params: {seed: 1, max_tokens: x}",
            "4:19 `params.max_tokens`: invalid type: string \"x\", expected u64",
        ),
        ("params: 3", "4:1 `params` must have members"),
        (
            "format: python",
            "4:1 `format` must be `fstring` or `jinja`",
        ),
        ("labels: [a, 'b c']", "4:13 label `b c` is not valid"),
        ("tools: x", "4:1 `tools` must be a list"),
        (
            "tools:\n- type: function\n- {}",
            "6:3 `tools[1].type` must be given",
        ),
        (
            "postprocess:\n- step: trim\n- step: trimm",
            "6:3 `postprocess[1]`: unknown variant `trimm`",
        ),
        (
            "postprocess:\n- step: extract\n  pattern: '('",
            "5:3 `postprocess[0]`: pattern `(` is not",
        ),
        (
            "variables_schema: {type: strin}",
            "4:1 `variables_schema` is not a valid JSON Schema",
        ),
    ] {
        check_mistake(
            &format!("---\nprompt: p\nmodel: m:1\n{members}\n---\n# user\nx\n"),
            expected,
        );
    }
}

#[test]
fn mistakes_in_messages_have_a_place() {
    for (body, expected) in [
        ("", "5:1 no messages; begin one"),
        ("\n\nHello\n# user\n", "8:1 text before the first message"),
        ("# user (litteral)\n", "6:9 unknown option `litteral`"),
        (
            "# user (name=\"x)\n",
            "6:9 `name=\"x` is not closed as a JSON string",
        ),
        ("# user (name=\"x\" y)\n", "6:9 expected a comma before `y`"),
        (
            "# user (json)\nx\n",
            "7:1 the text is not a JSON string: expected value",
        ),
        (
            "\n# system\nfine\n\n# user\n\n\nok\né {% nosuch %}\n",
            "14:6 unknown statement",
        ),
        (
            "# user\nok\n\\# user ({% a %}\n\\# user (x)\n",
            "8:13 unknown statement",
        ),
        ("# user (verbatim)\n\n{% nosuch %}", "8:4 unknown statement"),
        (
            "# user\nok\n{{ x | nosuch }}\n",
            "8:8 unknown filter `nosuch`",
        ),
        ("# user (json)\n\"{% a %}\\r\"\n", "7:1 unknown statement"),
        (
            "# user\nHello\n# asistant\nHi\n",
            "8:1 `# asistant` is no heading; write `# assistant`, or `\\# asistant` where it is text",
        ),
        (
            "# User\nHello\n",
            "6:1 `# User` is no heading; write `# user`",
        ),
    ] {
        check_mistake(
            &format!("---\nprompt: p\nmodel: m:1\nformat: jinja\n---\n{body}"),
            expected,
        );
    }
    let text = "---\nprompt: p\nmodel: m:1\n---\n# user\nok {{ {b} }} {{ name }}\n";
    check_mistake(
        text,
        "6:14 `{{ name }}` is a variable in Jinja, and text in the format `fstring`; add `format: jinja`",
    );
    let text = "---\nprompt: p\nmodel: m:1\n---\n# user\nok\n\\# user (})\n\\# user\n";
    check_mistake(text, "7:10 single `}`; write `}}` for a brace");
}
