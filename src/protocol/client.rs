//! What a client says, and the one place where it is checked. Past [`parse`] nobody
//! looks at raw JSON again.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{
    DEFAULT_LIMIT, ErrorCode, MAX_ECHO, MAX_LIMIT, MAX_MESSAGE_ID, ServerMessage, SessionId,
};
use crate::json::{self, Field, NotAnObject};

/// The longest `ts` a client may give a message, in characters.
const MAX_TIMESTAMP: usize = 64;

/// What a client says.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage {
    /// Words for Claude.
    Message(NewMessage),
    /// A request that the server answers by itself.
    Request(ClientRequest),
}

/// Words for Claude. What the client left out is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// The session it is for; the connection's own if `None`.
    pub session: Option<SessionId>,
    /// The text.
    pub content: Arc<str>,
    /// Who says it.
    pub user: Option<Arc<str>>,
    /// When it was said, as the client wrote it.
    pub ts: Option<Arc<str>>,
    /// The client's own id, the key for receipts and resends.
    pub id: Option<Arc<str>>,
}

/// Everything a client can ask for that Claude has no part in.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientRequest {
    /// `fetch_history`: what was said in a session.
    FetchHistory {
        /// The session; the connection's own if `None`.
        session: Option<SessionId>,
        /// 1 to [`MAX_LIMIT`].
        limit: usize,
        /// Only what came after this `seq`, from its beginning on.
        since: Option<u64>,
    },
    /// `permission_response`: a verdict on a tool call.
    PermissionResponse {
        /// Which request.
        request_id: String,
        /// Allowed or denied.
        allowed: bool,
    },
    /// `list_sessions`: which sessions there are, and how they are.
    ListSessions,
    /// `hello`: tell me who you are.
    Hello {
        /// Whether Claude's text is wanted as it appears; as before if `None`.
        stream: Option<bool>,
    },
    /// `ping`: are you there?
    Ping,
}

/// The names in a client's last message. Hardly any client ever uses others, and those that
/// come again are neither checked nor copied again.
#[derive(Debug, Default)]
pub struct LastNames {
    session: Option<SessionId>,
    user: Option<Arc<str>>,
}

/// Why a client's frame was not taken. The connection goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The kind, for programs.
    pub code: ErrorCode,
    /// One sentence for people.
    pub message: String,
    /// The session the frame names, or `""`.
    pub session_id: String,
    /// The `id` the frame gives its message, which then gets a `rejected`.
    pub id: Option<String>,
}

impl Refusal {
    /// A refusal of a frame that nothing more is known about.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            session_id: String::new(),
            id: None,
        }
    }

    /// What the client is told.
    pub fn error(&self) -> ServerMessage<&str> {
        ServerMessage::Error {
            session_id: &self.session_id,
            message: &self.message,
            code: self.code,
        }
    }
}

/// Reads one text frame. `max_name` is the longest session id and user name, in
/// characters.
///
/// # Errors
/// A [`Refusal`] that says which field is wrong, how, and what would be right.
pub fn parse(text: &str, max_name: usize) -> Result<ClientMessage, Refusal> {
    parse_next(text, max_name, &mut LastNames::default())
}

/// The same for a client that has sent frames before.
///
/// # Errors
/// A [`Refusal`] that says which field is wrong, how, and what would be right.
pub fn parse_next(
    text: &str,
    max_name: usize,
    last: &mut LastNames,
) -> Result<ClientMessage, Refusal> {
    let mut fields = Fields::new();
    fields.read(text)?;
    let kind = match fields.r#type.required_text() {
        Ok(kind) => kind,
        Err(wrong) => return Err(fields.refusal(ErrorCode::InvalidMessage, wrong)),
    };
    let message = match kind {
        "message" => fields.message(max_name, last).map(ClientMessage::Message),
        "fetch_history" => fields.fetch_history(max_name).map(ClientMessage::Request),
        "permission_response" => fields.permission_response().map(ClientMessage::Request),
        "list_sessions" => Ok(ClientMessage::Request(ClientRequest::ListSessions)),
        "hello" => fields.hello().map(ClientMessage::Request),
        "ping" => Ok(ClientMessage::Request(ClientRequest::Ping)),
        other => {
            let name: String = other.chars().take(MAX_ECHO).collect();
            let wrong = format!("unknown message type: {name}");
            return Err(fields.refusal(ErrorCode::UnknownType, wrong));
        }
    };
    message.map_err(|wrong| fields.refusal(ErrorCode::InvalidMessage, wrong))
}

/// A refusal of a frame for a reason that has nothing to do with its fields; says for
/// which session and message it is, as far as the frame can be read.
pub fn refuse(text: &str, why: Refusal) -> Refusal {
    let mut fields = Fields::new();
    match fields.read(text) {
        Ok(()) => fields.refusal(why.code, why.message),
        Err(_) => why,
    }
}

/// Every field of every client message.
struct Fields<'a> {
    r#type: Field<'a>,
    session_id: Field<'a>,
    content: Field<'a>,
    user: Field<'a>,
    ts: Field<'a>,
    id: Field<'a>,
    limit: Field<'a>,
    since: Field<'a>,
    request_id: Field<'a>,
    allowed: Field<'a>,
    stream: Field<'a>,
}

impl<'a> json::Fields<'a> for Fields<'a> {
    fn find(&mut self, name: &str) -> Option<&mut Field<'a>> {
        Some(match name {
            "type" => &mut self.r#type,
            "session_id" => &mut self.session_id,
            "content" => &mut self.content,
            "user" => &mut self.user,
            "ts" => &mut self.ts,
            "id" => &mut self.id,
            "limit" => &mut self.limit,
            "since" => &mut self.since,
            "request_id" => &mut self.request_id,
            "allowed" => &mut self.allowed,
            "stream" => &mut self.stream,
            _ => return None,
        })
    }
}

impl<'a> Fields<'a> {
    fn new() -> Self {
        Self {
            r#type: Field::named("type"),
            session_id: Field::named("session_id"),
            content: Field::named("content"),
            user: Field::named("user"),
            ts: Field::named("ts"),
            id: Field::named("id"),
            limit: Field::named("limit"),
            since: Field::named("since"),
            request_id: Field::named("request_id"),
            allowed: Field::named("allowed"),
            stream: Field::named("stream"),
        }
    }

    /// In place: moved about, they would take a page of every client's stack.
    fn read(&mut self, text: &'a str) -> Result<(), Refusal> {
        json::read_into(text, self).map_err(|not| match not {
            NotAnObject::Syntax => Refusal::new(ErrorCode::InvalidJson, "invalid JSON"),
            NotAnObject::OtherKind => Refusal::new(
                ErrorCode::InvalidMessage,
                "a message must be a JSON object with a \"type\"",
            ),
        })
    }

    fn message(&self, max_name: usize, last: &mut LastNames) -> Result<NewMessage, String> {
        let session = match &last.session {
            Some(id) if self.session_id.is(id.as_str()) => Some(id.clone()),
            _ => {
                let session = self.session(max_name)?;
                last.session.clone_from(&session);
                session
            }
        };
        let user = match &last.user {
            Some(name) if self.user.is(name) => Some(name.clone()),
            _ => {
                let user = self.user.optional_name(max_name)?.map(Arc::from);
                last.user.clone_from(&user);
                user
            }
        };
        Ok(NewMessage {
            session,
            content: self.content.required_text()?.into(),
            user,
            ts: self.timestamp()?.map(Arc::from),
            id: self.id.optional_name(MAX_MESSAGE_ID)?.map(Arc::from),
        })
    }

    /// Any way to write a time will do, as long as it can't be taken for something else
    /// where it ends up: in a tag's attribute, and between brackets.
    fn timestamp(&self) -> Result<Option<&str>, String> {
        let ts = self.ts.optional_name(MAX_TIMESTAMP)?;
        let is_time = |ts: &str| {
            ts.chars()
                .all(|c| c.is_ascii_alphanumeric() || " :.+-,".contains(c))
        };
        match ts {
            Some(ts) if !is_time(ts) => {
                Err("\"ts\" must be a time such as 2026-01-01T00:00:00Z".into())
            }
            ts => Ok(ts),
        }
    }

    fn fetch_history(&self, max_name: usize) -> Result<ClientRequest, String> {
        let since: Option<f64> = self.since.optional()?;
        Ok(ClientRequest::FetchHistory {
            session: self.session(max_name)?,
            limit: clamp_limit(self.limit.optional()?),
            // `as` saturates, and drops the fraction.
            since: since.map(|seq| seq as u64),
        })
    }

    fn permission_response(&self) -> Result<ClientRequest, String> {
        Ok(ClientRequest::PermissionResponse {
            request_id: self.request_id.required_text()?.to_owned(),
            allowed: self.allowed.required()?,
        })
    }

    fn hello(&self) -> Result<ClientRequest, String> {
        let stream = self.stream.optional()?;
        Ok(ClientRequest::Hello { stream })
    }

    fn session(&self, max: usize) -> Result<Option<SessionId>, String> {
        let name: Option<&str> = self.session_id.optional()?;
        name.map(|name| SessionId::parse("session_id", name, max))
            .transpose()
    }

    fn refusal(&self, code: ErrorCode, message: String) -> Refusal {
        let name = |field: &Field<'_>, max| {
            let name = field.optional_name(max).ok().flatten();
            name.map(str::to_owned)
        };
        let is_message = self.r#type.required_text() == Ok("message");
        Refusal {
            code,
            message,
            session_id: name(&self.session_id, MAX_ECHO).unwrap_or_default(),
            id: name(&self.id, MAX_MESSAGE_ID).filter(|_| is_message),
        }
    }
}

/// Brings a limit into 1 to [`MAX_LIMIT`]; [`DEFAULT_LIMIT`] if there is none.
pub fn clamp_limit(limit: Option<f64>) -> usize {
    // `as` drops the fraction.
    limit.map_or(DEFAULT_LIMIT, |n| n.clamp(1.0, MAX_LIMIT as f64) as usize)
}
