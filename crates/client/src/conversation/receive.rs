//! What the server says, and which room each message is for.

use super::Conversation;
use super::session::For;
use crate::Event;
use crate::pending::Sessions;
use crate::protocol::ServerMessage;
use crate::sent::Receipt;

impl Conversation {
    /// Takes a text frame. One that only a newer server sends is left alone.
    pub fn heard(&mut self, text: &str) {
        self.sign_of_life();
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
                self.tell(Event::Message(message));
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
            } if *session_id == self.options.session => match &mut self.held {
                Some(held) => held.messages.push((seq, message)),
                None => self.said(seq, message),
            },
            ServerMessage::History { ref messages, .. } => {
                let messages = messages.clone();
                match self.asks.pop_front().map(|ask| ask.what_for) {
                    Some(For::Gap) => self.filled(messages),
                    asked => {
                        self.tell(Event::Message(message));
                        if let Some(For::User(asked)) = asked {
                            asked.settle(Ok(messages));
                        }
                    }
                }
            }
            ServerMessage::Sessions {
                ref sessions,
                total,
                permissions,
            } => {
                let answer = Sessions {
                    sessions: sessions.clone(),
                    total,
                    permissions,
                };
                self.tell(Event::Message(message));
                if let Some(asked) = self.lists.pop_front() {
                    asked.settle(Ok(answer));
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
                self.receipt(&id, receipt, code);
            }
            other => self.tell(Event::Message(other)),
        }
    }
}
