//! What clients get wrong, and how it is rejected.

use super::*;

/// Each frame, and the error it earns.
#[rustfmt::skip]
#[test]
fn bad_frame_is_rejected_with_field_and_expected_kind() {
    let long = "x".repeat(200);
    let cases: &[(&str, ErrorCode, &str)] = &[
        ("", ErrorCode::InvalidJson, "invalid JSON"),
        ("{", ErrorCode::InvalidJson, "invalid JSON"),
        ("hello", ErrorCode::InvalidJson, "invalid JSON"),
        ("[1,", ErrorCode::InvalidJson, "invalid JSON"),
        ("12 x", ErrorCode::InvalidJson, "invalid JSON"),
        (
            r#"{"type":"ping"} x"#,
            ErrorCode::InvalidJson,
            "invalid JSON",
        ),
        (
            r#"{"type":"\ud800"}"#,
            ErrorCode::UnknownType,
            "unknown message type: \u{fffd}",
        ),
        (
            "[]",
            ErrorCode::InvalidMessage,
            "a message must be a JSON object with a \"type\"",
        ),
        (
            "null",
            ErrorCode::InvalidMessage,
            "a message must be a JSON object with a \"type\"",
        ),
        (
            "{}",
            ErrorCode::InvalidMessage,
            "\"type\" is missing; it must be a string",
        ),
        (
            r#"{"type":7}"#,
            ErrorCode::InvalidMessage,
            "\"type\" must be a string, not a number",
        ),
        (
            r#"{"type":"dance"}"#,
            ErrorCode::UnknownType,
            "unknown message type: dance",
        ),
        (
            r#"{"type":"message"}"#,
            ErrorCode::InvalidMessage,
            "\"content\" is missing; it must be a string",
        ),
        (
            r#"{"type":"message","content":null}"#,
            ErrorCode::InvalidMessage,
            "\"content\" is missing; it must be a string",
        ),
        (
            r#"{"type":"message","content":""}"#,
            ErrorCode::InvalidMessage,
            "\"content\" must not be empty",
        ),
        (
            r#"{"type":"message","content":{"a":[1]}}"#,
            ErrorCode::InvalidMessage,
            "\"content\" must be a string, not an object",
        ),
        (
            r#"{"type":"message","content":"x","user":true}"#,
            ErrorCode::InvalidMessage,
            "\"user\" must be a string, not true or false",
        ),
        (
            r#"{"type":"message","content":"x","ts":5}"#,
            ErrorCode::InvalidMessage,
            "\"ts\" must be a string, not a number",
        ),
        (
            r#"{"type":"message","content":"x","id":[]}"#,
            ErrorCode::InvalidMessage,
            "\"id\" must be a string, not an array",
        ),
        (
            r#"{"type":"message","content":"x","session_id":""}"#,
            ErrorCode::InvalidMessage,
            "\"session_id\" must not be empty",
        ),
        (
            r#"{"type":"message","content":"x","session_id":"a\nb"}"#,
            ErrorCode::InvalidMessage,
            "\"session_id\" must not contain control characters",
        ),
        (
            r#"{"type":"fetch_history","limit":"9"}"#,
            ErrorCode::InvalidMessage,
            "\"limit\" must be a number, not a string",
        ),
        (
            r#"{"type":"fetch_history","limit":1e999}"#,
            ErrorCode::InvalidMessage,
            "\"limit\" must be a number, not a number out of range",
        ),
        (
            r#"{"type":"fetch_history","since":-1e999}"#,
            ErrorCode::InvalidMessage,
            "\"since\" must be a number, not a number out of range",
        ),
        (
            r#"{"type":"message","content":1e999}"#,
            ErrorCode::InvalidMessage,
            "\"content\" must be a string, not a number out of range",
        ),
        (
            r#"{"type":"fetch_history","since":"9"}"#,
            ErrorCode::InvalidMessage,
            "\"since\" must be a number, not a string",
        ),
        (
            r#"{"type":"fetch_history","before":"9"}"#,
            ErrorCode::InvalidMessage,
            "\"before\" must be a number, not a string",
        ),
        (
            r#"{"type":"fetch_history","before":1e999}"#,
            ErrorCode::InvalidMessage,
            "\"before\" must be a number, not a number out of range",
        ),
        (
            r#"{"type":"search"}"#,
            ErrorCode::InvalidMessage,
            "\"text\" is missing; it must be a string",
        ),
        (
            r#"{"type":"search","text":["a"]}"#,
            ErrorCode::InvalidMessage,
            "\"text\" must be a string, not an array",
        ),
        (
            r#"{"type":"search","text":""}"#,
            ErrorCode::InvalidMessage,
            "\"text\" must not be empty",
        ),
        (
            r#"{"type":"search","text":"a\nb"}"#,
            ErrorCode::InvalidMessage,
            "\"text\" must not contain control characters",
        ),
        (
            r#"{"type":"search","text":"a","session_id":""}"#,
            ErrorCode::InvalidMessage,
            "\"session_id\" must not be empty",
        ),
        (
            r#"{"type":"search","text":"a","limit":true}"#,
            ErrorCode::InvalidMessage,
            "\"limit\" must be a number, not true or false",
        ),
        (
            r#"{"type":"fetch_verdicts","limit":"9"}"#,
            ErrorCode::InvalidMessage,
            "\"limit\" must be a number, not a string",
        ),
        (
            r#"{"type":"permission_response","allowed":true}"#,
            ErrorCode::InvalidMessage,
            "\"request_id\" is missing; it must be a string",
        ),
        (
            r#"{"type":"permission_response","request_id":"abcde"}"#,
            ErrorCode::InvalidMessage,
            "\"allowed\" is missing; it must be true or false",
        ),
        (
            r#"{"type":"permission_response","request_id":"abcde","allowed":"yes"}"#,
            ErrorCode::InvalidMessage,
            "\"allowed\" must be true or false, not a string",
        ),
        (
            r#"{"type":"hello","stream":1}"#,
            ErrorCode::InvalidMessage,
            "\"stream\" must be true or false, not a number",
        ),
    ];
    for (frame, code, message) in cases {
        let rejection = parse(frame, 128).expect_err(frame);
        assert_eq!(
            (rejection.code, rejection.message.as_str()),
            (*code, *message),
            "{frame}"
        );
    }
    for (field, limit) in [("session_id", 128), ("user", 128), ("id", 64), ("ts", 64)] {
        let frame = format!(r#"{{"type":"message","content":"x","{field}":"{long}"}}"#);
        let expected = format!("\"{field}\" has 200 characters; the limit is {limit}");
        assert_eq!(parse(&frame, 128).expect_err(field).message, expected);
    }
    let frame = format!(r#"{{"type":"search","text":"{}"}}"#, "x".repeat(201));
    let rejection = parse(&frame, 128).expect_err("the text is too long");
    let expected = "\"text\" has 201 characters; the limit is 200";
    assert_eq!(
        (rejection.message.as_str(), rejection.request),
        (expected, Some("search"))
    );
}

#[test]
fn rejection_has_session_and_id_of_its_frame() {
    let rejection = parse(r#"{"type":"message","session_id":"s1","id":"a1"}"#, 128);
    let rejection = rejection.expect_err("content is missing");
    assert_eq!(
        (rejection.session_id.as_str(), rejection.id.as_deref()),
        ("s1", Some("a1"))
    );
}

/// What comes after the error cannot be read.
#[test]
fn rejection_of_what_is_not_json_has_what_is_before_the_error() {
    let cases = [
        (
            r#"{"type":"message","session_id":"s1","id":"a1","content":"ab"#,
            "s1",
            Some("a1"),
        ),
        (
            r#"{"type":"message","session_id":"s1","id":"a1"} x"#,
            "s1",
            Some("a1"),
        ),
        (
            r#"{"type":"message","id":"a1","content":"\x"}"#,
            "",
            Some("a1"),
        ),
        (r#"{"type":"ping","id":"a1","#, "", None),
        (r#"{"id":"a1","type":"mess"#, "", None),
        (r#"{"type":"message","id":"a"#, "", None),
    ];
    for (frame, session, id) in cases {
        let rejection = parse(frame, 128).expect_err(frame);
        assert_eq!(rejection.code, ErrorCode::InvalidJson, "{frame}");
        assert_eq!(rejection.session_id, session, "{frame}");
        assert_eq!(rejection.id.as_deref(), id, "{frame}");
    }
}

/// What JavaScript and Python write, and Rust takes for an error.
#[test]
fn half_a_character_becomes_a_replacement_character() {
    let frame = r#"{"\udc00":"\ud800","type":"message","session_id":"s\ud83d","id":"\udcff1","user":"\ude00\ud83d",
        "content":"ab\ud83d \\ud83d \ud83d\ude00","more":[1e999,{"\ud83d":"\ud83d"}]}"#;
    let Ok(ClientMessage::Message(message)) = parse(frame, 128) else {
        panic!("the frame is a message");
    };
    assert_eq!(&*message.content, "ab\u{fffd} \\ud83d \u{1f600}");
    assert_eq!(message.user.as_deref(), Some("\u{fffd}\u{fffd}"));
    assert_eq!(message.id.as_deref(), Some("\u{fffd}1"));
    let session = message.session.as_ref().map(SessionId::as_str);
    assert_eq!(session, Some("s\u{fffd}"));
    let marked = "\u{feff}{\"type\":\"ping\"}";
    assert_eq!(
        parse(marked, 128),
        Ok(ClientMessage::Request(ClientRequest::Ping))
    );
}

#[test]
fn null_or_empty_optional_field_counts_as_left_out() {
    let frame = r#"{"type":"message","content":"x","user":null,"ts":"","id":null,"session_id":null,"more":{}}"#;
    let expected = NewMessage {
        session: None,
        content: "x".into(),
        user: None,
        ts: None,
        id: None,
    };
    assert_eq!(parse(frame, 128), Ok(ClientMessage::Message(expected)));
}

#[test]
fn limit_is_clamped_and_last_of_two_equal_fields_counts() {
    for (limit, expected) in [
        ("0", 1),
        ("-7", 1),
        ("1e300", 100),
        ("10.9", 10),
        ("null", 50),
    ] {
        let frame = format!(r#"{{"type":"fetch_history","limit":3,"limit":{limit}}}"#);
        let request = ClientRequest::FetchHistory {
            session: None,
            limit: expected,
            since: None,
            before: None,
        };
        assert_eq!(
            parse(&frame, 128),
            Ok(ClientMessage::Request(request)),
            "{limit}"
        );
    }
}

#[test]
fn seq_of_history_is_brought_into_range_without_its_fraction() {
    for (number, expected) in [("-7", 0), ("2.9", 2), ("1e300", u64::MAX)] {
        let frame = format!(r#"{{"type":"fetch_history","since":{number},"before":{number}}}"#);
        let request = ClientRequest::FetchHistory {
            session: None,
            limit: DEFAULT_LIMIT,
            since: Some(expected),
            before: Some(expected),
        };
        assert_eq!(parse(&frame, 128), Ok(ClientMessage::Request(request)));
    }
}

/// The client writes what the server reads.
#[test]
fn serialized_message_parses_to_itself() {
    let session = SessionId::parse("session", "s1", 128).expect("it is valid");
    let all = NewMessage {
        session: Some(session.clone()),
        content: "c".into(),
        user: Some("u".into()),
        ts: Some("2026-01-01T00:00:00Z".into()),
        id: Some("i".into()),
    };
    let least = NewMessage {
        session: None,
        user: None,
        ts: None,
        id: None,
        ..all.clone()
    };
    let requests = [
        ClientRequest::FetchHistory {
            session: Some(session.clone()),
            limit: 7,
            since: Some(3),
            before: Some(9),
        },
        ClientRequest::Search {
            session: Some(session),
            text: "some words".into(),
            limit: 50,
        },
        ClientRequest::FetchVerdicts { limit: 50 },
        ClientRequest::FetchHistory {
            session: None,
            limit: 50,
            since: None,
            before: None,
        },
        ClientRequest::PermissionResponse {
            request_id: "abcde".into(),
            allowed: true,
        },
        ClientRequest::ListSessions,
        ClientRequest::Hello { stream: Some(true) },
        ClientRequest::Hello { stream: None },
        ClientRequest::Ping,
    ];
    let messages = [all, least].map(ClientMessage::Message).into_iter();
    for message in messages.chain(requests.map(ClientMessage::Request)) {
        let text = serde_json::to_string(&message).expect("it is JSON");
        assert_eq!(parse(&text, 128), Ok(message), "{text}");
    }
}
