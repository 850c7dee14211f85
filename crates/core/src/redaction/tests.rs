//! Tests of redaction: what is found, and above all what is not.

use serde_json::json;

use super::*;
use crate::call::Call;
use crate::feedback::Feedback;

fn redactor() -> Redactor {
    let custom = [
        ("order".to_owned(), r"ORD-\d+".to_owned()),
        ("x".to_owned(), "☃+".to_owned()),
    ];
    Redactor::new(&BuiltinPattern::ALL, &custom).unwrap()
}

#[test]
fn personal_data_is_replaced() {
    for (text, expected) in [
        ("", ""),
        ("Write to ada@example.com.", "Write to [email]."),
        ("<Ada.Lovelace+x@mail.example.co.uk>", "<[email]>"),
        ("a@b.cc,c@d.ee;e@f.gg", "[email],[email];[email]"),
        ("müller@exämple.de", "[email]"),
        ("联系我foo@bar.com谢谢", "联系我[email]谢谢"),
        ("邮箱：用户@例子.公司。", "邮箱：[email]。"),
        ("x@y.xn--p1ai и ольга@почта.рф", "[email] и [email]"),
        (
            "card 4111 1111 1111 1111, exp 12/27",
            "card [card], exp 12/27",
        ),
        ("4111111111111111", "[card]"),
        ("3782-822463-10005 5500-0000-0000-0004", "[card] [card]"),
        ("6011111111111117/30569309025904", "[card]/[card]"),
        ("4111 1111 1111 1111 5500 0000 0000 0004", "[card] [card]"),
        ("卡号4111\u{a0}1111\u{a0}1111\u{a0}1111。", "卡号[card]。"),
        ("+49 (0)30 1234567", "[phone]"),
        ("+4930123456 or +1 (555) 123-4567", "[phone] or [phone]"),
        ("+33 1 23 45 67 89", "[phone]"),
        ("+44 20 7946 0958.", "[phone]."),
        ("+7 (495) 123-45-67", "[phone]"),
        ("+972-2-123-4567", "[phone]"),
        ("+49.301234567", "[phone]"),
        ("+49 30 1234567-0", "[phone]"),
        ("+49 30 1234567 24h", "[phone] 24h"),
        ("+1 555 123 4567 10 people", "[phone] 10 people"),
        ("tel:+15551234567", "tel:[phone]"),
        ("电话+86 138 1234 5678谢谢", "电话[phone]谢谢"),
        ("555-123-4567", "[phone]"),
        ("(555) 123-4567x12", "[phone]x12"),
        ("(555)123-4567", "[phone]"),
        ("555.123.4567", "[phone]"),
        ("555 234 4567", "[phone]"),
        ("1-800-555-0199", "[phone]"),
        ("555\u{2011}123\u{2011}4567", "[phone]"),
        ("Call 555-0199 now", "Call [phone] now"),
        ("Phone: 555-0199", "Phone: [phone]"),
        ("030/123 45 67", "[phone]"),
        (
            "Tel. 0171 2345678, Fax 030-1234567-0",
            "Tel. [phone], Fax [phone]",
        ),
        ("01.23.45.67.89 et 06 12 34 56 78", "[phone] et [phone]"),
        ("020 7946 0958", "[phone]"),
        ("0049 30 1234567", "[phone]"),
        ("(030) 1234567 und (11) 91234-5678", "[phone] und [phone]"),
        ("030 1234567 040 7654321", "[phone] [phone]"),
        ("030 1234567/030 7654321", "[phone]/[phone]"),
        ("+49 30 1234567, +49 30 7654321", "[phone], [phone]"),
        ("010-1234-5678 138-1234-5678", "[phone] [phone]"),
        ("ORD-12 and ☃☃", "[order] and [x]"),
    ] {
        assert_eq!(redactor().redact_text(text), expected, "{text}");
    }
}

#[test]
fn other_things_stay() {
    for text in [
        "550e8400-e29b-41d4-a716-446655440000",
        "00000000-0000-4000-8000-000000000000",
        "41111111-1111-1111-0123-456789012345",
        "2024-07-18T10:00:00.000+02:00 2024-07-18 10:30:00+0200",
        "18.07.2024 07/18/2024 18-07-2024 01.02.2024 10:30 05 12 2024",
        "20240718123456 1721298000000 1721298000",
        "1.234.567,89 € 1 234 567 1 050 000 000 $1,234.56 £0.50 1.00 2.00 3.00",
        "order 12345678, invoice 0012345678, ticket 123456789012",
        "4111111111111112 1234567890123456",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "192.168.100.200 010.001.002.003 10.0.0.1:8080 127.0.0.1",
        "1.2.3 v12.34.5678 110.0.5481.177 1.95.0-beta.2",
        "00-14-22-01-23-45 00:14:22:01:23:45 00 01 02 03 04 05 06",
        "write 500-1000 words, 256-1024 tokens, $200-2000",
        "pages 101-1234, opening 0800-1600",
        "978-3-16-148410-0 0-306-40615-2",
        "+3.1415926 +1.2345678 +2.345.678 -5551234567 1e+12345678",
        "5 4 3 2 1 5 4 3 2 4 5 3 5 5 5 4 4 1 2 3 5 4 3 2 1 5 4 3",
        "@mention pkg@1.2.3 user@localhost a@b",
        "const x = 0x0123 4567; 3.14159265358979",
        "用户 12345678 号",
        "data:image/png;base64,4111111111111111/4111111111111111+4915112345678",
    ] {
        assert_eq!(redactor().redact_text(text), text);
    }
}

#[test]
fn only_whole_data_urls_stay() {
    for (text, expected) in [
        ("data: a@b.cc", "data: [email]"),
        ("data:text/plain,a@b.cc", "data:text/plain,[email]"),
        ("data:x;base64,AAAA a@b.cc", "data:x;base64,AAAA [email]"),
    ] {
        assert_eq!(redactor().redact_text(text), expected);
    }
}

#[test]
fn json_is_redacted_value_by_value() {
    let mut value = json!({
        "a@b.cc": ["a@b.cc", {"n": 4111111111111111_u64, "m": 42, "f": 1.5, "t": true, "z": null}],
        "url": "data:image/png;base64,AAAA",
        "arguments": "{\"text\": \"Hi\\nfoo@bar.com\", \"n\": 4111111111111111}",
        "same": "{\"text\":   1}",
    });
    redactor().redact_json(&mut value);
    let expected = json!({
        "a@b.cc": ["[email]", {"n": "[card]", "m": 42, "f": 1.5, "t": true, "z": null}],
        "url": "data:image/png;base64,AAAA",
        "arguments": "{\"text\":\"Hi\\n[email]\",\"n\":\"[card]\"}",
        "same": "{\"text\":   1}",
    });
    assert_eq!(value, expected);
    let mut nested = "a@b.cc".to_owned();
    for _ in 0..12 {
        nested = json!([nested]).to_string();
        assert!(!redactor().redact_text(&nested).contains('@'), "{nested}");
    }
}

#[test]
fn custom_patterns_are_checked() {
    for (name, pattern, expected) in [
        (
            "a b",
            "x",
            "`a b` cannot name a pattern: use 1 to 64 letters, digits, `_` or `-`",
        ),
        (
            "",
            "x",
            "`` cannot name a pattern: use 1 to 64 letters, digits, `_` or `-`",
        ),
        ("n", "(", "pattern `n` is not a valid regular expression: "),
        (
            "n",
            "x*",
            "pattern `n` matches the empty text, which is everywhere",
        ),
    ] {
        let error = Redactor::new(&[], &[(name.to_owned(), pattern.to_owned())]).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let none = Redactor::new(&[], &[]).unwrap();
    assert!(none.is_empty() && !redactor().is_empty());
    assert_eq!(none.redact_text("a@b.cc"), "a@b.cc");
    let boundary = Redactor::new(&[], &[("b".to_owned(), r"\b".to_owned())]).unwrap();
    assert_eq!(boundary.redact_text("a b"), "a b");
}

#[test]
fn every_pattern_works_alone_and_has_a_name() {
    for (pattern, text) in [
        (BuiltinPattern::Email, "a@b.cc"),
        (BuiltinPattern::Card, "4111 1111 1111 1111"),
        (BuiltinPattern::Phone, "+49 30 1234567"),
    ] {
        let redactor = Redactor::new(&[pattern], &[]).unwrap();
        assert_eq!(
            redactor.redact_text(text),
            format!("[{}]", pattern.as_str())
        );
        assert_eq!(BuiltinPattern::parse(pattern.as_str()), Some(pattern));
        assert_eq!(json!(pattern), json!(pattern.as_str()));
    }
    assert_eq!(BuiltinPattern::parse("iban"), None);
}

#[test]
fn records_are_redacted() {
    let mut call: Call = serde_json::from_value(json!({
        "id": "c", "started_at": "2024-07-18T00:00:00Z", "status": "ok", "latency_us": 1,
        "unit": "ada@example.com", "session": "a@b.cc", "idempotency_key": "a@b.cc",
        "tags": {"mail": "a@b.cc"}, "variables": {"v": ["a@b.cc"]},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "I am a@b.cc"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}],
        "output": "a@b.cc", "raw_output": "a@b.cc", "error": "a@b.cc",
        "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{\"to\":\"a@b.cc\"}"}}],
    }))
    .unwrap();
    redactor().redact_call(&mut call);
    let text = serde_json::to_string(&call).unwrap();
    assert_eq!(text.matches("a@b.cc").count(), 2, "{text}");
    assert_eq!(text.matches("[email]").count(), 7, "{text}");
    assert_eq!(call.facts.unit.as_deref(), Some("ada@example.com"));

    let mut feedback: Feedback = serde_json::from_value(json!({
        "id": "f", "call_id": "c", "kind": "comment", "text": "mail a@b.cc", "author": "a@b.cc",
        "created_at": "2024-07-18T00:00:00Z",
    }))
    .unwrap();
    redactor().redact_feedback(&mut feedback);
    assert!(!serde_json::to_string(&feedback).unwrap().contains('@'));
}

#[test]
fn long_texts_take_time_in_proportion() {
    // A quadratic search would take minutes for these.
    for piece in [
        "0", "1 ", "+1 ", "(", "12-", "a.", "@", "a@b.", "0171 ", "4111 ", "{", "[\"", "é",
        "a@b.cc ",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        assert!(redactor().redact_text(&text).len() <= 2 * text.len());
    }
}
