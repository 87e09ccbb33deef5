//! What is kept on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claude_socket::hub::stored::{
    Change, Query, QueryAnswer, QueryId, SessionNumber, StoreInput, Verdict,
};
use claude_socket::hub::{Author, Message};
use claude_socket::protocol::MessageId;
use claude_socket::store::{self, Options, Store};
use crossbeam_channel::Receiver;
use uuid::Uuid;

use super::{Check, Row};
use crate::server::{TEST_TIMEOUT, binary, config};
use crate::state::State;

pub const CHECKS: &[(&str, Check)] = &[
    ("name of an agent", agent_name),
    ("time that what was said is kept on disk", history_ttl),
    ("bytes of what was said on disk", history_disk),
    ("changes that wait to be written to disk", waiting_changes),
    (
        "bytes of changes that wait to be written to disk",
        waiting_bytes,
    ),
    ("verdicts of an agent on disk", verdicts),
];

/// The folder is not made before a server listens.
const FOLDER: [&str; 2] = ["--state-dir", "/nonexistent"];

fn agent_name(row: &Row) {
    let name = "é".repeat(row.one);
    assert_eq!(*config(&["--agent", &name]).agent, *name);
    let longer = format!("--agent={name}é");
    let output = binary().arg(longer).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&row.one.to_string()), "{said}");
}

fn history_ttl(row: &Row) {
    let store = config(&FOLDER).store.expect("there is a store by default");
    assert_eq!(store.ttl.as_millis(), row.one as u128);
}

fn history_disk(row: &Row) {
    let store = config(&FOLDER).store.expect("there is a store by default");
    assert_eq!(store.max_bytes, row.all as u64);
}

/// A store that is open, and a connection that can keep it from writing.
struct Blockable {
    store: Store,
    reports: Receiver<StoreInput>,
    database: rusqlite::Connection,
    _state: State,
}

impl Blockable {
    fn open() -> Self {
        let state = State::new();
        let options = Options {
            folder: Path::new(state.path()).join("store"),
            port: 1,
            agent: "project".into(),
            ttl: Duration::from_hours(24),
            max_bytes: 256 * 1024 * 1024,
        };
        let file = options.folder.join("1.db");
        let (store, reports) = store::start(options).expect("the store starts");
        let opened = reports.recv_timeout(TEST_TIMEOUT);
        assert!(matches!(opened, Ok(StoreInput::Opened(_))), "{opened:?}");
        let database = rusqlite::Connection::open(file).expect("the database opens");
        Self {
            store,
            reports,
            database,
            _state: state,
        }
    }

    fn block(&self) {
        let blocked = self.database.execute_batch("BEGIN IMMEDIATE");
        blocked.expect("the database can be locked");
    }
}

const SESSION: SessionNumber = SessionNumber(1);

fn waiting_changes(row: &Row) {
    let blockable = Blockable::open();
    blockable.block();
    let change = Change::Unread {
        session: SESSION,
        seq: 1,
    };
    blockable.store.write(vec![change.clone(); row.all]);
    assert!(!blockable.store.is_behind());
    blockable.store.write(vec![change]);
    assert!(blockable.store.is_behind());
}

fn waiting_bytes(row: &Row) {
    let blockable = Blockable::open();
    blockable.block();
    let text: Arc<str> = "x".repeat(row.all / 16).into();
    let message = |seq| {
        let author = Author::Assistant { via: None };
        let ts = "2026-01-01T00:00:00.000Z".into();
        let id = MessageId(Uuid::from_u128(u128::from(seq)));
        Change::Message {
            session: SESSION,
            message: Message::restored(id, seq, author, text.clone(), ts, None).into(),
            key: None,
            state: None,
        }
    };
    blockable.store.write((1..=15).map(message).collect());
    assert!(!blockable.store.is_behind());
    blockable.store.write((16..=17).map(message).collect());
    assert!(blockable.store.is_behind());
}

fn verdicts(row: &Row) {
    let blockable = Blockable::open();
    let verdict = |number: usize| Change::Verdict {
        agent: "project".into(),
        verdict: Verdict {
            request_id: number.to_string().into(),
            tool_name: "Bash".into(),
            description: "".into(),
            allowed: true,
            by: "ann".into(),
            ts: "2026-01-01T00:00:00.000Z".into(),
        },
    };
    blockable.store.write((0..=row.one).map(verdict).collect());
    let stored = blockable.reports.recv_timeout(TEST_TIMEOUT);
    assert!(matches!(stored, Ok(StoreInput::Stored(_))), "{stored:?}");
    let query = Query::Verdicts {
        agent: "project".into(),
        limit: usize::MAX,
    };
    blockable.store.ask(QueryId(1), query);
    let answer = blockable.reports.recv_timeout(TEST_TIMEOUT);
    let Ok(StoreInput::Answer(_, QueryAnswer::Verdicts(verdicts))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(verdicts.len(), row.one);
    assert_eq!(*verdicts[0].request_id, *"1");
}
