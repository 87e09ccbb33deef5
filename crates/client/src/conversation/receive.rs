//! Frames of the server, and who handles each.

use super::Conversation;
use super::session::HistoryPurpose;
use crate::Event;
use crate::pending::Sessions;
use crate::protocol::ServerMessage;
use crate::sent_message::Receipt;

impl Conversation {
    /// Handles a text frame. Ignores what only a newer server sends.
    pub fn handle_frame(&mut self, text: &str) {
        self.peer_alive();
        let Ok(message) = serde_json::from_str::<ServerMessage>(text) else {
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
            } if *session_id == self.options.session => {
                self.newest = self.newest.max(seq);
                match &mut self.reorder_buffer {
                    Some(buffer) => buffer.messages.push((seq, message)),
                    None => self.emit_in_order(seq, message),
                }
            }
            ServerMessage::History {
                session_id,
                messages,
                more,
            } => {
                self.history_part.extend(messages);
                if more {
                    return;
                }
                let messages = std::mem::take(&mut self.history_part);
                match self
                    .history_requests
                    .pop_front()
                    .map(|request| request.purpose)
                {
                    Some(HistoryPurpose::Gap) => self.handle_missed(messages),
                    purpose => {
                        self.emit(Event::Message(ServerMessage::History {
                            session_id,
                            messages: messages.clone(),
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
                hint,
                ..
            } => {
                let receipt = Receipt {
                    state,
                    message_id,
                    seq,
                    hint,
                };
                self.handle_receipt(&id, receipt, code);
            }
            other => self.emit(Event::Message(other)),
        }
    }
}
