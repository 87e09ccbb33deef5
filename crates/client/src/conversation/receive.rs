//! Frames of the server, and who handles each.

use super::Conversation;
use super::session::HistoryPurpose;
use crate::pending::Sessions;
use crate::protocol::{ErrorCode, ServerMessage, replace_lone_surrogates};
use crate::sent_message::{Receipt, Refusal};
use crate::{Error, Event};

impl Conversation {
    /// Handles a text frame. Ignores what only a newer server sends.
    pub fn handle_frame(&mut self, text: &str) {
        self.peer_alive();
        let Some(message) = read(text) else {
            return log::warn!("the server has sent what this client does not understand");
        };
        match message {
            ServerMessage::Unknown => {}
            ServerMessage::Welcome {
                seq,
                ref created,
                max_message,
                ..
            } => {
                let created = created.clone();
                self.emit(Event::Message(message));
                self.welcome(seq, created, max_message);
            }
            ServerMessage::Reply {
                ref session_id,
                seq,
                ..
            }
            | ServerMessage::UserMessage {
                ref session_id,
                seq,
                ..
            } if *session_id == self.options.session => match &mut self.reorder_buffer {
                Some(buffer) => buffer.messages.push((seq, message)),
                None => self.emit_in_order(seq, message),
            },
            ServerMessage::History {
                session_id,
                messages,
                search: Some(text),
                more,
                ..
            } => self.handle_found(session_id, messages, &text, more),
            ServerMessage::Verdicts { verdicts, more } => {
                self.verdicts_part.extend(verdicts);
                if more {
                    return;
                }
                let verdicts = std::mem::take(&mut self.verdicts_part);
                self.emit(Event::Message(ServerMessage::Verdicts {
                    verdicts: verdicts.clone(),
                    more,
                }));
                self.verdict_requests.settle(Ok(verdicts));
            }
            ServerMessage::History {
                session_id,
                messages,
                truncated_before,
                search: None,
                more,
            } => {
                self.history_part.extend(messages);
                self.truncated_before = self.truncated_before.max(truncated_before);
                if more {
                    return;
                }
                let messages = std::mem::take(&mut self.history_part);
                let truncated_before = self.truncated_before.take();
                match self
                    .history_requests
                    .pop_front()
                    .map(|request| request.purpose)
                {
                    Some(HistoryPurpose::Gap) => self.handle_missed(messages, truncated_before),
                    purpose => {
                        self.emit(Event::Message(ServerMessage::History {
                            session_id,
                            messages: messages.clone(),
                            truncated_before,
                            search: None,
                            more,
                        }));
                        if let Some(HistoryPurpose::App(pending)) = purpose {
                            pending.settle(Ok(messages));
                        }
                    }
                }
            }
            ServerMessage::Sessions {
                sessions,
                total,
                permissions,
                more,
            } => {
                self.sessions_part.extend(sessions);
                if more {
                    return;
                }
                let answer = Sessions {
                    sessions: std::mem::take(&mut self.sessions_part),
                    total,
                    permissions,
                };
                self.emit(Event::Message(ServerMessage::Sessions {
                    sessions: answer.sessions.clone(),
                    total,
                    permissions,
                    more,
                }));
                if let Some(pending) = self.session_requests.pop_front() {
                    pending.settle(Ok(answer));
                }
            }
            ServerMessage::Delivery {
                id,
                message_id,
                seq,
                state,
                code,
                retry_after,
                hint,
                ..
            } => {
                let receipt = Receipt {
                    state,
                    message_id,
                    seq,
                    hint,
                };
                self.handle_receipt(&id, receipt, Refusal { code, retry_after });
            }
            ServerMessage::Error {
                request: Some(ref request),
                code,
                message: ref why,
                ..
            } => {
                let error = Error::Rejected {
                    code: Some(code),
                    why: why.clone(),
                    retry_after: None,
                };
                let request = request.clone();
                self.emit(Event::Message(message));
                self.fail_request(&request, &error);
            }
            ServerMessage::Error {
                ref session_id,
                code: ErrorCode::InvalidJson,
                message: ref why,
                ..
            } if session_id.is_empty() => {
                let why = format!(
                    "the server could not read a frame, maybe that of this message ({why})"
                );
                self.emit(Event::Message(message));
                self.fail_sent(&why);
            }
            other => self.emit(Event::Message(other)),
        }
    }
}

/// Returns the message in a frame, if it is one.
fn read(text: &str) -> Option<ServerMessage> {
    let message = serde_json::from_str(text);
    message
        .or_else(|error| match replace_lone_surrogates(text) {
            Some(repaired) => serde_json::from_str(&repaired),
            None => Err(error),
        })
        .ok()
}
