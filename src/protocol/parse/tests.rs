//! What clients get wrong, and what they are told.

use super::*;

/// Each frame, and the error it earns.
#[rustfmt::skip]
#[test]
fn a_bad_frame_is_told_which_field_is_wrong() {
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
            ErrorCode::InvalidJson,
            "invalid JSON",
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
            r#"{"type":"fetch_history","since":"9"}"#,
            ErrorCode::InvalidMessage,
            "\"since\" must be a number, not a string",
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
        let refusal = parse(frame, 128).expect_err(frame);
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (*code, *message),
            "{frame}"
        );
    }
    for (field, limit) in [("session_id", 128), ("user", 128), ("id", 64), ("ts", 64)] {
        let frame = format!(r#"{{"type":"message","content":"x","{field}":"{long}"}}"#);
        let expected = format!("\"{field}\" has 200 characters; the limit is {limit}");
        assert_eq!(parse(&frame, 128).expect_err(field).message, expected);
    }
}

#[test]
fn a_refusal_carries_the_session_and_the_id_it_was_for() {
    let refusal = parse(r#"{"type":"message","session_id":"s1","id":"a1"}"#, 128);
    let refusal = refusal.expect_err("content is missing");
    assert_eq!(
        (refusal.session_id.as_str(), refusal.id.as_deref()),
        ("s1", Some("a1"))
    );
}

#[test]
fn null_and_empty_optional_fields_count_as_left_out() {
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
fn limits_are_clamped_and_the_last_of_two_equal_fields_counts() {
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
        };
        assert_eq!(
            parse(&frame, 128),
            Ok(ClientMessage::Request(request)),
            "{limit}"
        );
    }
}
