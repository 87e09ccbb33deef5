//! The protocol for machines, `src/protocol/asyncapi.yaml`, against the code beside it.
//!
//! Here is what the code knows, listed so that the compiler asks for a new message, field
//! or name; `tests/web/asyncapi.test.js` compares it with the schema.

use std::fs;

use claude_socket::protocol::{
    Activity, ClientMessage, ClientRequest, DEFAULT_LIMIT, DeliveryState, ErrorCode, HistoryItem,
    HostInfo, MAX_LIMIT, MAX_SESSIONS_LISTED, MessageId, NewMessage, Role, ServerMessage,
    SessionItem, Speaker, Via, parse,
};
use serde_json::{Value, json};

use crate::web::node_with;

#[test]
fn asyncapi() {
    let known = json!({
        "client": client_messages(),
        "server": server_messages(),
        "names": names(),
        "limits": {
            "fetch_history.limit": DEFAULT_LIMIT,
            "history.messages": MAX_LIMIT,
            "sessions.sessions": MAX_SESSIONS_LISTED,
        },
    });
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/protocol.json");
    fs::write(path, known.to_string()).expect("a file");
    let known = [("CLAUDE_SOCKET_TEST_PROTOCOL", path)];
    node_with("asyncapi.test.js", &["npm"], &known);
}

/// A frame of each type, with every field there is. Which fields those are follows from
/// [`fields_of`]: its patterns leave none out.
fn client_messages() -> Vec<Value> {
    let frames = [
        json!({ "type": "message", "session_id": "s", "content": "c", "user": "u", "ts": "t", "id": "i" }),
        json!({ "type": "fetch_history", "session_id": "s", "limit": 1, "since": 1 }),
        json!({ "type": "permission_response", "request_id": "r", "allowed": true }),
        json!({ "type": "list_sessions" }),
        json!({ "type": "hello", "stream": true }),
        json!({ "type": "ping" }),
    ];
    for (place, frame) in frames.iter().enumerate() {
        let message = parse(&frame.to_string(), 128).expect("it is valid");
        let (of, fields) = fields_of(&message);
        assert_eq!(of, place, "{frame}");
        // And the `type`.
        let given = frame.as_object().expect("an object").len() - 1;
        assert_eq!(given, fields.len(), "{frame}");
        assert!(fields.iter().all(|given| *given), "{frame}");
    }
    frames.into()
}

/// The place of a message among the frames above, and which of its fields are given.
fn fields_of(message: &ClientMessage) -> (usize, Vec<bool>) {
    use ClientMessage::{Message, Request};
    match message {
        Message(NewMessage {
            session,
            content: _,
            user,
            ts,
            id,
        }) => {
            let given = [
                session.is_some(),
                true,
                user.is_some(),
                ts.is_some(),
                id.is_some(),
            ];
            (0, given.into())
        }
        Request(ClientRequest::FetchHistory {
            session,
            limit: _,
            since,
        }) => (1, vec![session.is_some(), true, since.is_some()]),
        Request(ClientRequest::PermissionResponse {
            request_id: _,
            allowed: _,
        }) => (2, vec![true, true]),
        Request(ClientRequest::ListSessions) => (3, vec![]),
        Request(ClientRequest::Hello { stream }) => (4, vec![stream.is_some()]),
        Request(ClientRequest::Ping) => (5, vec![]),
    }
}

/// The variants of an enum, those that are never sent behind a semicolon. It doesn't
/// compile if one is left out.
macro_rules! all {
    ($type:ident: $($name:ident),*; $($unsent:ident),*) => {{
        let _: fn($type) = |name| match name {
            $($type::$name)|* $(| $type::$unsent)* => {}
        };
        json!([$($type::$name),*])
    }};
}

/// The names that fields can have as their value, by what the schema calls them.
#[rustfmt::skip]
fn names() -> Value {
    json!({
        "Activity": all!(Activity: Thinking, ToolUse, Idle;),
        "DeliveryState": all!(DeliveryState: Accepted, Seen, Unseen, Answered, Rejected;),
        "ErrorCode": all!(
            ErrorCode: InvalidJson, UnknownType, InvalidMessage, TooLarge, Forbidden,
            UnknownRequest, Busy, HostClosed; QueueFull, Other
        ),
        "Role": all!(Role: Operator, Sender, Viewer;),
        "Speaker": all!(Speaker: User, Assistant;),
        "Via": all!(Via: Transcript; Other),
    })
}

/// A message of each kind, with every field there is.
fn server_messages() -> Vec<Value> {
    let (message_id, seq) = (MessageId(uuid::Uuid::nil()), 1);
    let ts = || "2026-01-01T00:00:00Z".to_owned();
    let text = || "text".to_owned();
    let item = || HistoryItem {
        role: Speaker::User,
        content: text(),
        ts: ts(),
        message_id,
        seq,
        user: Some(text()),
        via: Some(Via::Transcript),
    };
    let messages = [
        ServerMessage::Reply {
            session_id: text(),
            message_id,
            seq,
            content: text(),
            ts: ts(),
            via: Some(Via::Transcript),
        },
        ServerMessage::Stream {
            session_id: text(),
            delta: text(),
        },
        ServerMessage::Status {
            session_id: text(),
            status: Activity::Idle,
            detail: Some(text()),
        },
        ServerMessage::History {
            session_id: text(),
            messages: vec![item()],
        },
        ServerMessage::Sessions {
            sessions: vec![SessionItem {
                session_id: text(),
                clients: 1,
                created: ts(),
                seq,
                status: Activity::Idle,
                detail: Some(text()),
                last: Some(item()),
            }],
            total: 1,
            permissions: 0,
        },
        ServerMessage::PermissionRequest {
            session_id: text(),
            request_id: text(),
            tool_name: text(),
            description: text(),
            input_preview: text(),
        },
        ServerMessage::PermissionResolved {
            session_id: text(),
            request_id: text(),
            allowed: true,
            by: text(),
        },
        ServerMessage::UserMessage {
            session_id: text(),
            message_id,
            seq,
            content: text(),
            user: text(),
            ts: ts(),
        },
        ServerMessage::Delivery {
            session_id: text(),
            id: text(),
            message_id: Some(message_id),
            seq: Some(seq),
            state: DeliveryState::Rejected,
            code: Some(ErrorCode::Busy),
            hint: Some(text()),
        },
        ServerMessage::Welcome {
            server: env!("CARGO_PKG_NAME").to_owned(),
            version: text(),
            session_id: text(),
            role: Role::Operator,
            user: Some(text()),
            seq,
            created: ts(),
            max_message: 1,
            host: HostInfo {
                name: text(),
                version: text(),
                ready: true,
            },
        },
        ServerMessage::Pong,
        ServerMessage::Error {
            session_id: text(),
            message: text(),
            code: ErrorCode::Busy,
        },
    ];
    for (expected, message) in messages.iter().enumerate() {
        assert_eq!(place(message), Some(expected), "{message:?}");
    }
    let json = messages
        .iter()
        .map(|message| serde_json::to_value(message).expect("JSON"));
    json.collect()
}

/// The place of a message among those above. It doesn't compile if a kind is left out.
fn place(message: &ServerMessage) -> Option<usize> {
    let place = match message {
        ServerMessage::Reply { .. } => 0,
        ServerMessage::Stream { .. } => 1,
        ServerMessage::Status { .. } => 2,
        ServerMessage::History { .. } => 3,
        ServerMessage::Sessions { .. } => 4,
        ServerMessage::PermissionRequest { .. } => 5,
        ServerMessage::PermissionResolved { .. } => 6,
        ServerMessage::UserMessage { .. } => 7,
        ServerMessage::Delivery { .. } => 8,
        ServerMessage::Welcome { .. } => 9,
        ServerMessage::Pong => 10,
        ServerMessage::Error { .. } => 11,
        ServerMessage::Unknown => return None,
    };
    Some(place)
}
