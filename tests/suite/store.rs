//! The store, with real files: what it keeps, what it answers, what it does when its files can't be used.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use claude_socket::hub::stored::{
    Change, Opened, Query, QueryAnswer, QueryId, SessionNumber, Span, StoreInput,
};
use claude_socket::hub::{Author, AuthorId, Fingerprint, Message};
use claude_socket::protocol::{DeliveryState, Grant, MessageId, SessionId};
use claude_socket::store::{self, Options, State, Store};
use crossbeam_channel::Receiver;
use uuid::Uuid;

const PORT: u16 = 8765;
const AGENT: &str = "agent";
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("store-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("the folder can be made");
        Self(folder)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn database(&self) -> PathBuf {
        self.store().join(format!("{PORT}.db"))
    }

    fn options(&self) -> Options {
        Options {
            folder: self.store(),
            port: PORT,
            agent: AGENT.into(),
            ttl: Duration::from_hours(24),
            max_bytes: 256 * 1024 * 1024,
        }
    }

    fn open(&self) -> Running {
        Running::start(self.options())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A store that runs, and what it has said.
struct Running {
    store: Store,
    reports: Receiver<StoreInput>,
    opened: Opened,
    sent: u64,
    asked: u64,
}

impl Running {
    fn start(options: Options) -> Self {
        let (store, reports) = store::start(options).expect("threads can be started");
        let opened = match next(&reports) {
            StoreInput::Opened(opened) => *opened,
            other => panic!("{other:?}: {:?}", store.health()),
        };
        Self {
            store,
            reports,
            opened,
            sent: 0,
            asked: 0,
        }
    }

    /// Writes changes and waits until they are on disk.
    fn write(&mut self, changes: Vec<Change>) {
        self.send(changes);
        loop {
            match next(&self.reports) {
                StoreInput::Stored(position) if position == self.sent => return,
                StoreInput::Stored(_) | StoreInput::Removed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn send(&mut self, changes: Vec<Change>) {
        self.sent += changes.len() as u64;
        self.store.write(changes);
    }

    fn ask(&mut self, query: Query) -> QueryAnswer {
        self.asked += 1;
        let id = QueryId(self.asked);
        self.store.ask(id, query);
        loop {
            match next(&self.reports) {
                StoreInput::Answer(of, answer) if of == id => return answer,
                StoreInput::Stored(_) | StoreInput::Removed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn close(self) {
        assert!(self.store.close(Instant::now() + PATIENCE), "it is closed");
    }

    fn messages(&mut self, session: u32) -> Vec<Message> {
        let query = Query::Messages {
            session: SessionNumber(session),
            span: Span::ALL,
            room: usize::MAX,
        };
        match self.ask(query) {
            QueryAnswer::Messages {
                messages,
                more: false,
            } => messages,
            other => panic!("{other:?}"),
        }
    }

    fn search(&mut self, text: &str) -> Vec<String> {
        let query = Query::Search {
            agent: AGENT.into(),
            session: None,
            grant: Arc::new(Grant::WITHOUT_TOKEN),
            text: text.into(),
            limit: 10,
        };
        match self.ask(query) {
            QueryAnswer::Found(found) => {
                let texts = found.iter().map(|(_, message)| message.content.to_string());
                texts.collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn next(reports: &Receiver<StoreInput>) -> StoreInput {
    reports
        .recv_timeout(PATIENCE)
        .expect("the store reports something")
}

fn id(name: &str) -> SessionId {
    SessionId::parse("session", name, 128).expect("it is a name")
}

fn session(number: u32, name: &str) -> Change {
    Change::Session {
        number: SessionNumber(number),
        agent: AGENT.into(),
        id: id(name),
        created: SystemTime::now(),
    }
}

const TS: &str = "2026-01-02T03:04:05.678Z";

fn message(seq: u64, content: &str) -> Message {
    let author = Author::User {
        id: AuthorId::Grant(7),
        name: "ann".into(),
    };
    let id = MessageId(Uuid::from_u128(u128::from(seq)));
    Message::restored(id, seq, author, content.into(), TS.into(), None)
}

/// A message of a user with a client's id.
fn said(session: u32, seq: u64, content: &str, state: DeliveryState) -> Change {
    Change::Message {
        session: SessionNumber(session),
        message: Arc::new(message(seq, content)),
        key: Some((format!("key-{seq}").into(), Fingerprint::of("ann", content))),
        state: Some(state),
    }
}

fn reply(session: u32, seq: u64, content: &str) -> Change {
    let author = Author::Assistant { via: None };
    let id = MessageId(Uuid::from_u128(u128::from(seq)));
    let message = Message::restored(id, seq, author, content.into(), TS.into(), None);
    Change::Message {
        session: SessionNumber(session),
        message: Arc::new(message),
        key: None,
        state: None,
    }
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| &*message.content).collect()
}

#[test]
fn what_was_said_comes_back() {
    let folder = Folder::new();
    let mut store = folder.open();
    assert_eq!(store.opened.next_session, 1);
    store.write(vec![
        session(1, "chat"),
        said(1, 1, "hello", DeliveryState::Answered),
        reply(1, 2, "Hello yourself"),
    ]);
    store.close();

    let mut store = folder.open();
    assert_eq!(store.opened.next_session, 2);
    assert!(store.opened.inbox.is_empty());
    let messages = store.messages(1);
    assert_eq!(texts(&messages), ["hello", "Hello yourself"]);
    assert_eq!(&*messages[0].ts, TS);
    assert_eq!(messages[0].user(), Some("ann"));
    assert_eq!(messages[0].state(), Some(DeliveryState::Answered));
    assert_eq!(messages[0].id, message(1, "").id);
    assert!(messages[1].is_reply());
    assert_eq!(store.search("YOURS"), ["Hello yourself"]);
    assert_eq!(store.store.health().state, State::Open);
    store.close();
}
