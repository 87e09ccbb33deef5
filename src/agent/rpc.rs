//! JSON-RPC 2.0: the envelope around all that Claude Code and the server send each other, one
//! object a line.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::hub::CallId;
use crate::json;

/// The line is not JSON.
pub const PARSE_ERROR: i32 = -32700;
/// The line is JSON, but no request, notification or response.
pub const INVALID_REQUEST: i32 = -32600;
/// There is no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The method is there, its parameters are wrong.
pub const INVALID_PARAMS: i32 = -32602;

/// One line, parsed.
#[derive(Debug, PartialEq)]
pub enum Envelope<'a> {
    /// Must be answered.
    Request {
        /// The id for the answer, a string or a number as it was written.
        id: CallId,
        /// The method that is called.
        method: Cow<'a, str>,
        /// JSON, `{}` if left out.
        params: &'a str,
    },
    /// Must not be answered.
    Notification {
        /// What happened.
        method: Cow<'a, str>,
        /// JSON, `{}` if left out.
        params: &'a str,
    },
    /// A response. The server sends Claude Code no requests, so it is ignored.
    Response,
}

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// One of the codes above.
    pub code: i32,
    /// One sentence for people.
    pub message: String,
}

impl Error {
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// A line that is no request, notification or response.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The id for the error response, if the line had one.
    pub id: Option<CallId>,
    /// [`PARSE_ERROR`] or [`INVALID_REQUEST`].
    pub error: Error,
}

/// Parses one line.
///
/// # Errors
/// [`Malformed`].
pub fn parse(line: &[u8]) -> Result<Envelope<'_>, Malformed> {
    let not_json = |why: String| Malformed {
        id: None,
        error: Error::new(PARSE_ERROR, format!("Parse error: {why}")),
    };
    let text = std::str::from_utf8(line).map_err(|error| not_json(error.to_string()))?;
    let raw: Raw<'_> = match serde_json::from_str(text) {
        Ok(raw) if !is_batch(text) => raw,
        other => {
            serde_json::from_str::<&RawValue>(text).map_err(|error| not_json(error.to_string()))?;
            return Err(wrong_kind(text, other.err()));
        }
    };
    let id = match raw.id {
        None => None,
        Some(id) => match call_id(id) {
            None => return Err(invalid(None, "\"id\" must be a string or a number")),
            id => id,
        },
    };
    if raw.jsonrpc.as_deref() != Some("2.0") {
        return Err(invalid(id, "\"jsonrpc\" must be \"2.0\""));
    }
    let params = raw.params.map_or("{}", RawValue::get);
    match (raw.method, id) {
        (Some(method), Some(id)) => Ok(Envelope::Request { id, method, params }),
        (Some(method), None) => Ok(Envelope::Notification { method, params }),
        (None, Some(_)) if raw.result.is_some() || raw.error.is_some() => Ok(Envelope::Response),
        (None, id) => Err(invalid(id, "\"method\" is missing")),
    }
}

/// Returns `true` if the line is an array. MCP has had no batches since its revision 2025-06-18,
/// but serde reads a struct from an array, too.
fn is_batch(text: &str) -> bool {
    text.trim_start().starts_with('[')
}

/// Returns the id of a request as it was written, if it is a string or a number.
fn call_id(id: &RawValue) -> Option<CallId> {
    let id = id.get();
    let is_id = id.starts_with(['"', '-']) || id.starts_with(|c: char| c.is_ascii_digit());
    is_id.then(|| CallId(id.into()))
}

/// Says what is wrong with a line that is JSON: it is no object, or a field is of another kind.
fn wrong_kind(text: &str, error: Option<serde_json::Error>) -> Malformed {
    let Ok([jsonrpc, method]) = json::object(text, ["jsonrpc", "method"]) else {
        return invalid(None, "send one JSON-RPC object a line, and no batches");
    };
    let id = serde_json::from_str::<Id<'_>>(text).ok();
    let id = id.and_then(|id| call_id(id.id));
    let fields = [jsonrpc.optional::<&str>(), method.optional()];
    match (fields.into_iter().find_map(Result::err), error) {
        (Some(wrong), _) => invalid(id, &wrong.to_string()),
        // A repeated field, named by the error.
        (None, Some(error)) => invalid(id, &error.to_string()),
        (None, None) => invalid(id, "send one JSON-RPC object a line"),
    }
}

fn invalid(id: Option<CallId>, why: &str) -> Malformed {
    Malformed {
        id,
        error: Error::new(INVALID_REQUEST, format!("Invalid Request: {why}")),
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// The id alone, of a line whose other fields can't be read.
#[derive(Deserialize)]
struct Id<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
}

/// Distinguishes `null`, which is a value, from a missing field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Writes the result of a request as one line.
pub fn write_result(line: &mut Vec<u8>, id: &CallId, result: &impl Serialize) {
    line.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    line.extend_from_slice(id.0.as_bytes());
    line.extend_from_slice(br#","result":"#);
    json::write(line, result);
    line.extend_from_slice(b"}\n");
}

/// Writes an error response as one line. Its id is `null` if the request had none.
pub fn write_error(line: &mut Vec<u8>, id: Option<&CallId>, error: &Error) {
    line.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    line.extend_from_slice(id.map_or("null", |id| &id.0).as_bytes());
    line.extend_from_slice(format!(r#","error":{{"code":{},"message":"#, error.code).as_bytes());
    json::write(line, &error.message);
    line.extend_from_slice(b"}}\n");
}

/// Writes a notification as one line.
pub fn write_notification(line: &mut Vec<u8>, method: &str, params: &impl Serialize) {
    line.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
    json::write(line, &method);
    line.extend_from_slice(br#","params":"#);
    json::write(line, params);
    line.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line with the code of its error and the id in it.
    #[rustfmt::skip]
    #[test]
    fn malformed_line_gets_its_error_code() {
        let cases: &[(&[u8], i32, Option<&str>)] = &[
            (b"hello", PARSE_ERROR, None),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1", PARSE_ERROR, None),
            (b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}", PARSE_ERROR, None),
            (b"[] x", PARSE_ERROR, None),
            (b"7", INVALID_REQUEST, None),
            (b"null", INVALID_REQUEST, None),
            (b"[]", INVALID_REQUEST, None),
            (br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, INVALID_REQUEST, None),
            (br#"["2.0",1,"ping",null,null,null]"#, INVALID_REQUEST, None),
            (br#"{}"#, INVALID_REQUEST, None),
            (br#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST, Some("1")),
            (br#"{"jsonrpc":"1.0","id":"a","method":"ping"}"#, INVALID_REQUEST, Some("\"a\"")),
            (br#"{"id":-1.5,"method":"ping"}"#, INVALID_REQUEST, Some("-1.5")),
            (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, INVALID_REQUEST, None),
            (br#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, INVALID_REQUEST, None),
            (br#"{"jsonrpc":"2.0","id":1,"method":7}"#, INVALID_REQUEST, Some("1")),
            (br#"{"jsonrpc":2,"id":1,"method":"ping"}"#, INVALID_REQUEST, Some("1")),
            (br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, INVALID_REQUEST, None),
        ];
        for (line, code, id) in cases {
            let Malformed { id: for_id, error } = parse(line).expect_err("the line is malformed");
            let line = String::from_utf8_lossy(line);
            assert_eq!((error.code, for_id.as_ref().map(|id| &*id.0)), (*code, *id), "{line}");
        }
    }

    #[test]
    fn wrong_field_of_a_request_is_named() {
        let cases = [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
                "\"method\" must be a string, not a number",
            ),
            (
                r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
                "\"jsonrpc\" must be a string, not a number",
            ),
            (
                r#"{"jsonrpc":"1","id":1,"method":"ping"}"#,
                "\"jsonrpc\" must be \"2.0\"",
            ),
            (
                r#"{"jsonrpc":"2.0","id":[],"method":"ping"}"#,
                "\"id\" must be a string or a number",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#,
                "duplicate field `method`",
            ),
            ("[]", "send one JSON-RPC object a line, and no batches"),
        ];
        for (line, expected) in cases {
            let Malformed { error, .. } =
                parse(line.as_bytes()).expect_err("the line is malformed");
            assert!(
                error.message.contains(expected),
                "{line}: {}",
                error.message
            );
        }
    }

    #[test]
    fn ids_are_echoed_as_they_were_written() {
        for id in [
            "0",
            "-7",
            "1e3",
            "12345678901234567890123",
            r#""a\u0000b""#,
            r#""\ud83d""#,
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            let Ok(Envelope::Request { id: kept, .. }) = parse(line.as_bytes()) else {
                panic!("{line} is a request");
            };
            let mut answer = Vec::new();
            write_result(&mut answer, &kept, &());
            let expected = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":null}}\n");
            assert_eq!(String::from_utf8_lossy(&answer), expected);
        }
    }

    #[test]
    fn response_is_ignored() {
        let line = br#"{"jsonrpc":"2.0","id":1,"result":null}"#;
        assert_eq!(parse(line), Ok(Envelope::Response));
    }
}
