//! Checks what a client sends. Past [`parse`] nobody looks at raw JSON again.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{
    ClientMessage, ClientRequest, DEFAULT_LIMIT, ErrorCode, FieldError, FieldErrorKind, MAX_LIMIT,
    MAX_MESSAGE_ID, MAX_QUOTED, MAX_SEARCH, MAX_TIMESTAMP, NewMessage, ServerMessage, SessionId,
};
use crate::json::{self, Field, ObjectError};

/// The `type` of each request, as an error names it.
const REQUESTS: [&str; 8] = [
    FETCH_HISTORY,
    FETCH_RECEIPT,
    FETCH_VERDICTS,
    PERMISSION_RESPONSE,
    SEARCH,
    "list_sessions",
    "hello",
    "ping",
];
/// The `type` of requests that the hub rejects, too.
pub const FETCH_HISTORY: &str = "fetch_history";
pub const FETCH_RECEIPT: &str = "fetch_receipt";
pub const FETCH_VERDICTS: &str = "fetch_verdicts";
pub const SEARCH: &str = "search";
pub const PERMISSION_RESPONSE: &str = "permission_response";

/// The names in a client's last message. Most clients never use others, and a name that comes again is neither
/// checked nor copied again.
#[derive(Debug, Default)]
pub struct NameCache {
    session: Option<SessionId>,
    user: Option<Arc<str>>,
}

/// Why a client's frame was not taken. The connection goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The kind, for programs.
    pub code: ErrorCode,
    /// One sentence for people.
    pub message: String,
    /// The session that the frame names, or `""`.
    pub session_id: String,
    /// The `id` of the message in the frame, which then gets the receipt `rejected`.
    pub id: Option<String>,
    /// In how many seconds the same frame can be taken, if that is known.
    pub retry_after: Option<u64>,
    /// The `type` of the frame, if it is a request.
    pub request: Option<&'static str>,
}

impl Rejection {
    /// Rejects a frame of which nothing more is known.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            session_id: String::new(),
            id: None,
            retry_after: None,
            request: None,
        }
    }

    /// Returns the message that tells the client.
    pub fn error(&self) -> ServerMessage<&str> {
        ServerMessage::Error {
            session_id: &self.session_id,
            message: &self.message,
            code: self.code,
            retry_after: self.retry_after,
            request: self.request,
        }
    }
}

/// Parses one text frame. A session id and a user's name have `max_name` characters at most.
///
/// # Errors
/// Says which field is wrong, how, and what would be right.
pub fn parse(text: &str, max_name: usize) -> Result<ClientMessage, Rejection> {
    parse_cached(text, max_name, &mut NameCache::default())
}

/// Parses a client's next frame, with the names of its last one at hand.
///
/// # Errors
/// Says which field is wrong, how, and what would be right.
pub fn parse_cached(
    text: &str,
    max_name: usize,
    last: &mut NameCache,
) -> Result<ClientMessage, Rejection> {
    let mut fields = Fields::new();
    fields.read(text)?;
    let kind = match fields.kind.required_text() {
        Ok(kind) => kind,
        Err(wrong) => return Err(fields.invalid(&wrong)),
    };
    let message = match kind {
        "message" => fields.message(max_name, last).map(ClientMessage::Message),
        FETCH_HISTORY => fields.fetch_history(max_name).map(ClientMessage::Request),
        FETCH_RECEIPT => fields.fetch_receipt(max_name).map(ClientMessage::Request),
        FETCH_VERDICTS => fields.fetch_verdicts().map(ClientMessage::Request),
        SEARCH => fields.search(max_name).map(ClientMessage::Request),
        PERMISSION_RESPONSE => fields.permission_response().map(ClientMessage::Request),
        "list_sessions" => Ok(ClientMessage::Request(ClientRequest::ListSessions)),
        "hello" => fields.hello().map(ClientMessage::Request),
        "ping" => Ok(ClientMessage::Request(ClientRequest::Ping)),
        other => {
            let name: String = other.chars().take(MAX_QUOTED).collect();
            let wrong = format!("unknown message type: {name}");
            return Err(fields.rejection(ErrorCode::UnknownType, wrong));
        }
    };
    message.map_err(|wrong| fields.invalid(&wrong))
}

/// Rejects a frame for a reason other than its fields. Adds the session and the message's id, as far as the frame can
/// be read.
pub fn reject(text: &str, why: Rejection) -> Rejection {
    let mut fields = Fields::new();
    // Whatever is wrong with it besides, its beginning may name both.
    let _ = fields.read(text);
    fields.rejection(why.code, why.message)
}

json::fields! {
    /// Every field of every client message.
    struct Fields {
        kind = "type", session_id, content, user, ts, id, limit, since, before, text, request_id, allowed, stream,
    }
}

impl<'a> Fields<'a> {
    /// Reads the fields in place: moving them would take a page of each client's stack. A rejection of what isn't JSON
    /// names the session and the message's id if they are before the error, so that whoever waits for a receipt gets one.
    fn read(&mut self, text: &'a str) -> Result<(), Rejection> {
        json::read_into(text, self).map_err(|not| match not {
            ObjectError::Syntax => {
                self.rejection(ErrorCode::InvalidJson, "invalid JSON".to_owned())
            }
            ObjectError::OtherKind => Rejection::new(
                ErrorCode::InvalidMessage,
                "a message must be a JSON object with a \"type\"",
            ),
        })
    }

    fn message(&self, max_name: usize, last: &mut NameCache) -> Result<NewMessage, FieldError> {
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

    /// Returns the `ts`. Any notation of a time is accepted that is harmless in a tag's attribute and between brackets.
    fn timestamp(&self) -> Result<Option<&str>, FieldError> {
        let ts = self.ts.optional_name(MAX_TIMESTAMP)?;
        let is_time = |ts: &str| {
            ts.chars()
                .all(|c| c.is_ascii_alphanumeric() || " :.+-,".contains(c))
        };
        match ts {
            Some(ts) if !is_time(ts) => Err(FieldErrorKind::NotATime.of("ts")),
            ts => Ok(ts),
        }
    }

    fn fetch_history(&self, max_name: usize) -> Result<ClientRequest, FieldError> {
        let since: Option<f64> = self.since.optional()?;
        Ok(ClientRequest::FetchHistory {
            session: self.session(max_name)?,
            limit: clamp_limit(self.limit.optional()?),
            // `as` saturates, and drops the fraction.
            since: since.map(|seq| seq as u64),
            before: self.before.optional()?.map(|seq: f64| seq as u64),
        })
    }

    fn search(&self, max_name: usize) -> Result<ClientRequest, FieldError> {
        Ok(ClientRequest::Search {
            session: self.session(max_name)?,
            text: self.text.required_name(MAX_SEARCH)?.into(),
            limit: clamp_limit(self.limit.optional()?),
        })
    }

    fn fetch_verdicts(&self) -> Result<ClientRequest, FieldError> {
        Ok(ClientRequest::FetchVerdicts {
            limit: clamp_limit(self.limit.optional()?),
        })
    }

    fn fetch_receipt(&self, max_name: usize) -> Result<ClientRequest, FieldError> {
        Ok(ClientRequest::FetchReceipt {
            session: self.session(max_name)?,
            id: self.id.required_name(MAX_MESSAGE_ID)?.into(),
        })
    }

    fn permission_response(&self) -> Result<ClientRequest, FieldError> {
        Ok(ClientRequest::PermissionResponse {
            request_id: self.request_id.required_text()?.to_owned(),
            allowed: self.allowed.required()?,
        })
    }

    fn hello(&self) -> Result<ClientRequest, FieldError> {
        let stream = self.stream.optional()?;
        Ok(ClientRequest::Hello { stream })
    }

    fn session(&self, max: usize) -> Result<Option<SessionId>, FieldError> {
        let name: Option<&str> = self.session_id.optional()?;
        name.map(|name| SessionId::parse("session_id", name, max))
            .transpose()
    }

    fn invalid(&self, wrong: &FieldError) -> Rejection {
        self.rejection(ErrorCode::InvalidMessage, wrong.to_string())
    }

    fn rejection(&self, code: ErrorCode, message: String) -> Rejection {
        let name = |field: &Field<'_>, max| {
            let name = field.optional_name(max).ok().flatten();
            name.map(str::to_owned)
        };
        let kind = self.kind.required_text();
        let is_message = kind == Ok("message");
        Rejection {
            code,
            message,
            session_id: name(&self.session_id, MAX_QUOTED).unwrap_or_default(),
            id: name(&self.id, MAX_MESSAGE_ID).filter(|_| is_message),
            retry_after: None,
            request: REQUESTS.into_iter().find(|known| kind == Ok(known)),
        }
    }
}

/// Returns a limit from 1 to [`MAX_LIMIT`]; [`DEFAULT_LIMIT`] if the client gives none.
pub fn clamp_limit(limit: Option<f64>) -> usize {
    // `as` drops the fraction.
    limit.map_or(DEFAULT_LIMIT, |n| n.clamp(1.0, MAX_LIMIT as f64) as usize)
}
