//! The store, with real files: what it keeps, what it answers, what it does when its files can't be used.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use claude_socket::hub::stored::{
    Change, Opened, Query, QueryAnswer, QueryId, Selection, SessionNumber, Span, StoreInput,
    StoredReceipt, StoredSession, Verdict,
};
use claude_socket::hub::{Author, AuthorId, Fingerprint, Message};
use claude_socket::protocol::{DeliveryState, Grant, MessageId, SessionId, SessionPattern};
use claude_socket::store::data::Data;
use claude_socket::store::{self, Options, State, Store};
use crossbeam_channel::Receiver;
use serde_json::{Value, json};
use uuid::Uuid;

const PORT: u16 = 8765;
const AGENT: &str = "robin";
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

    /// Opens the store when another has given back the lock.
    fn open_when_free(&self) -> Running {
        let (store, reports) = store::start(self.options()).expect("threads can be started");
        Running::when_open(store, reports)
    }

    fn data(&self) -> Data {
        Data::new(&self.store(), PORT)
    }

    /// Returns `true` if a text is anywhere in the files.
    fn holds(&self, text: &str) -> bool {
        let entries = fs::read_dir(self.store()).expect("the folder can be read");
        entries.flatten().any(|entry| {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        })
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
    /// Why it could not be opened at once.
    unavailable: Option<String>,
    sent: u64,
    asked: u64,
}

impl Running {
    fn start(options: Options) -> Self {
        let (store, reports) = store::start(options).expect("threads can be started");
        let running = Self::when_open(store, reports);
        assert!(running.unavailable.is_none(), "{:?}", running.unavailable);
        running
    }

    fn when_open(store: Store, reports: Receiver<StoreInput>) -> Self {
        let mut unavailable = None;
        let opened = loop {
            match next(&reports) {
                StoreInput::Opened(opened) => break *opened,
                StoreInput::Unavailable => {
                    unavailable = store.health().state.sentence().map(str::to_owned);
                }
                other => panic!("{other:?}: {:?}", store.health()),
            }
        };
        Self {
            store,
            reports,
            opened,
            unavailable,
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
                // A question about what was damaged may still be answered.
                StoreInput::Stored(_)
                | StoreInput::Removed(_)
                | StoreInput::Answer(_, QueryAnswer::Failed) => {}
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
                StoreInput::Answer(..) | StoreInput::Stored(_) | StoreInput::Removed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn close_in_vain(self) {
        assert!(!self.store.close(Instant::now() + PATIENCE));
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

    /// The texts that are found.
    fn search(&mut self, text: &str) -> Vec<String> {
        let found = self.find(None, Grant::WITHOUT_TOKEN, text);
        found
            .iter()
            .map(|(_, message)| message.content.to_string())
            .collect()
    }

    /// The sessions in which something is found.
    fn found(&mut self, session: Option<SessionId>, grant: Grant, text: &str) -> Vec<String> {
        let found = self.find(session, grant, text);
        found.iter().map(|(id, _)| id.to_string()).collect()
    }

    fn find(
        &mut self,
        session: Option<SessionId>,
        grant: Grant,
        text: &str,
    ) -> Vec<(SessionId, Arc<Message>)> {
        let query = Query::Search {
            agent: AGENT.into(),
            session,
            grant: Arc::new(grant),
            text: text.into(),
            limit: 10,
        };
        match self.ask(query) {
            QueryAnswer::Found(found) => found,
            other => panic!("{other:?}"),
        }
    }

    fn session(&mut self, name: &str) -> Option<StoredSession> {
        let agent = AGENT.into();
        match self.ask(Query::Session {
            agent,
            id: id(name),
        }) {
            QueryAnswer::Session(session) => session,
            other => panic!("{other:?}"),
        }
    }

    fn receipt(&mut self, session: u32, key: &str) -> Option<StoredReceipt> {
        let session = SessionNumber(session);
        match self.ask(Query::Receipt {
            session,
            key: key.into(),
        }) {
            QueryAnswer::Receipt(receipt) => receipt,
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

fn state(session: u32, seq: u64, state: DeliveryState) -> Change {
    Change::State {
        session: SessionNumber(session),
        seq,
        state,
    }
}

fn unread(session: u32, seq: u64) -> Change {
    Change::Unread {
        session: SessionNumber(session),
        seq,
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    path.into()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode can be changed");
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

#[test]
fn nothing_is_lost_without_a_close() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.write(vec![session(1, "chat"), reply(1, 1, "one")]);
    store.write(vec![reply(1, 2, "two")]);
    // As a crash would leave them: what is written later is not there.
    let crashed = Folder::new();
    fs::create_dir_all(crashed.store()).expect("the folder can be made");
    for end in ["", "-wal"] {
        let from = with_end(&folder.database(), end);
        let to = with_end(&crashed.database(), end);
        fs::copy(from, to).expect("the file can be copied");
    }
    store.write(vec![reply(1, 3, "three")]);
    assert_eq!(texts(&crashed.open().messages(1)), ["one", "two"]);
    drop(store);
    // It ends on its own, and gives the lock back.
    let mut store = folder.open_when_free();
    assert_eq!(texts(&store.messages(1)), ["one", "two", "three"]);
    store.close();
}

/// A client may have seen seqs that a crash has kept from the disk.
#[test]
fn seqs_go_on_far_beyond_a_crash() {
    let folder = Folder::new();
    let mut store = folder.open();
    let seq = |seq| Change::Seq {
        session: SessionNumber(1),
        seq,
        updated: SystemTime::now(),
    };
    store.write(vec![session(1, "chat"), seq(1), reply(1, 1, "text")]);
    store.close();
    let mut store = folder.open();
    assert_eq!(store.session("chat").map(|session| session.seq), Some(1));
    // It ends without a close, as after a crash.
    let copy = Folder::new();
    fs::create_dir_all(copy.store()).expect("the folder can be made");
    set_mode(&copy.store(), 0o700);
    for end in ["", "-wal"] {
        let (from, to) = (folder.database(), copy.database());
        fs::copy(with_end(&from, end), with_end(&to, end)).expect("the file can be copied");
    }
    let mut crashed = copy.open();
    let after = crashed.session("chat").expect("it is there").seq;
    assert!(after > 60_000, "{after}");
    crashed.close();
    let mut again = copy.open();
    assert_eq!(
        again.session("chat").map(|session| session.seq),
        Some(after)
    );
    again.close();
    store.close();
}

#[test]
fn store_has_what_it_took_before_it_was_closed() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.send(vec![session(1, "chat")]);
    for seq in 1..=2_000 {
        store.send(vec![reply(1, seq, "text")]);
    }
    store.close();
    let mut store = folder.open();
    assert_eq!(store.messages(1).len(), 2_000);
    store.close();
}

#[test]
fn states_are_folded_and_kept() {
    use DeliveryState::{Accepted, Answered, Queued, Rejected, Seen};
    let folder = Folder::new();
    let mut store = folder.open();
    store.write(vec![
        session(1, "chat"),
        said(1, 1, "one", Queued),
        state(1, 1, Accepted),
        said(1, 2, "two", Queued),
        state(1, 1, Seen),
    ]);
    store.write(vec![state(1, 2, Accepted), state(1, 2, Answered)]);
    let states =
        |messages: Vec<Message>| -> Vec<_> { messages.iter().filter_map(Message::state).collect() };
    assert_eq!(states(store.messages(1)), [Seen, Answered]);
    let receipt = store.receipt(1, "key-2").expect("it is known");
    assert_eq!((receipt.seq, receipt.state), (2, Answered));
    assert_eq!(receipt.fingerprint, Fingerprint::of("ann", "two"));
    assert_eq!(receipt.message_id, message(2, "").id);
    assert!(store.receipt(1, "key-3").is_none());
    assert!(store.receipt(2, "key-2").is_none());
    // A key is free for another message once its own was rejected.
    store.write(vec![state(1, 1, Rejected)]);
    assert!(store.receipt(1, "key-1").is_none());
    let mut again = said(1, 3, "one", Accepted);
    if let Change::Message { key: Some(key), .. } = &mut again {
        key.0 = "key-1".into();
    }
    store.write(vec![again]);
    assert_eq!(
        store.receipt(1, "key-1").map(|receipt| receipt.seq),
        Some(3)
    );
    store.close();
}

#[test]
fn what_waits_is_given_to_the_agent_again_in_order() {
    use DeliveryState::{Accepted, Queued, Seen};
    let folder = Folder::new();
    let mut store = folder.open();
    store.write(vec![
        session(1, "one"),
        session(2, "two"),
        said(2, 1, "first", Queued),
        said(1, 1, "second", Queued),
        said(2, 2, "third", Queued),
        said(1, 2, "seen", Accepted),
        state(1, 2, Seen),
        Change::Session {
            number: SessionNumber(3),
            agent: "other".into(),
            id: id("one"),
            created: SystemTime::now(),
        },
        said(3, 1, "for another", Queued),
    ]);
    // It was given, and comes back.
    store.write(vec![state(1, 1, Accepted), state(1, 1, Queued)]);
    store.close();
    let store = folder.open();
    let inbox = &store.opened.inbox;
    let texts: Vec<_> = inbox
        .iter()
        .map(|item| (item.session.as_str(), &*item.message.content))
        .collect();
    assert_eq!(
        texts,
        [("two", "first"), ("one", "second"), ("two", "third")]
    );
    let key = inbox[0].key.as_ref().expect("it has a key");
    assert_eq!(&*key.0, "key-1");
    assert_eq!(key.1, Fingerprint::of("ann", "first"));
    let mut sessions: Vec<_> = store.opened.sessions.iter().collect();
    sessions.sort_by_key(|(_, session)| session.number);
    let sessions: Vec<_> = sessions
        .iter()
        .map(|(id, session)| (id.as_str(), session.number.0, session.keys))
        .collect();
    assert_eq!(sessions, [("one", 1, 2), ("two", 2, 2)]);
    assert_eq!(store.opened.next_session, 4);
    store.close();
}

#[test]
fn what_was_given_is_lost_unless_hooks_confirm() {
    use DeliveryState::{Accepted, Lost, Queued, Unseen};
    for confirms in [false, true] {
        let folder = Folder::new();
        let mut store = folder.open();
        store.write(vec![
            session(1, "chat"),
            said(1, 1, "given", Accepted),
            said(1, 2, "unseen", Unseen),
            said(1, 3, "waits", Queued),
            Change::Confirms {
                agent: AGENT.into(),
                confirms,
            },
        ]);
        store.close();
        let mut store = folder.open();
        let inbox = store.opened.inbox.iter();
        let inbox: Vec<_> = inbox.map(|item| item.message.seq).collect();
        let states: Vec<_> = store
            .messages(1)
            .iter()
            .filter_map(Message::state)
            .collect();
        if confirms {
            assert_eq!(inbox, [1, 2, 3]);
            assert_eq!(states, [Queued; 3]);
        } else {
            assert_eq!(inbox, [3]);
            assert_eq!(states, [Lost, Lost, Queued]);
        }
        store.close();
        assert_eq!(folder.open().opened.inbox.len(), inbox.len());
    }
}

#[test]
fn what_was_never_answered_is_settled_a_part_at_a_time() {
    let folder = Folder::new();
    let mut store = folder.open();
    let mut changes = vec![session(1, "chat")];
    changes.extend((1..=2_500).map(|seq| said(1, seq, "text", DeliveryState::Accepted)));
    store.write(changes);
    store.close();
    let mut store = folder.open();
    let lost = |messages: Vec<Message>| {
        let is_lost = |message: &&Message| message.state() == Some(DeliveryState::Lost);
        messages.iter().filter(is_lost).count()
    };
    // Some are at once.
    let receipt = store.receipt(1, "key-1").expect("it is known");
    assert_eq!(receipt.state, DeliveryState::Lost);
    while lost(store.messages(1)) < 2_500 {}
    store.close();
}

#[test]
fn session_is_found_with_its_seq_and_its_unread_replies() {
    let folder = Folder::new();
    let mut store = folder.open();
    let updated = SystemTime::now();
    store.write(vec![
        session(1, "chat"),
        Change::Seq {
            session: SessionNumber(1),
            seq: 100,
            updated,
        },
        reply(1, 1, "1"),
        reply(1, 2, "22"),
        reply(1, 3, "333"),
        unread(1, 1),
        unread(1, 2),
        unread(1, 3),
        Change::Read {
            session: SessionNumber(1),
            first: 1,
            last: 2,
        },
    ]);
    store.close();
    let mut store = folder.open();
    assert!(store.session("chats").is_none());
    let session = store.session("chat").expect("it is there");
    assert_eq!((session.number.0, session.seq), (1, 100));
    assert_eq!((session.removed_before, session.keys), (0, 0));
    let unread: Vec<_> = session
        .unread
        .iter()
        .map(|unread| (unread.seq, unread.content_len))
        .collect();
    assert_eq!(unread, [(3, 3)]);
    let age = SystemTime::now().duration_since(session.unread[0].said);
    assert!(age.expect("the clock goes") < PATIENCE);
    store.close();
}

#[test]
fn history_comes_in_pages() {
    let folder = Folder::new();
    let mut store = folder.open();
    let mut changes = vec![
        session(1, "chat"),
        session(2, "other"),
        reply(2, 1, "other"),
    ];
    changes.extend((1..=20).map(|seq| reply(1, seq, &format!("{seq:02}"))));
    store.write(changes);
    let item = message(1, "11").item_len() + 1;
    let mut page = |after, before, limit, is_last, room| {
        let query = Query::Messages {
            session: SessionNumber(1),
            span: Span {
                after,
                before,
                limit,
                is_last,
            },
            room,
        };
        match store.ask(query) {
            QueryAnswer::Messages { messages, more } => {
                let seqs: Vec<_> = messages.iter().map(|message| message.seq).collect();
                (seqs, more)
            }
            other => panic!("{other:?}"),
        }
    };
    let max = usize::MAX;
    assert_eq!(page(0, u64::MAX, 3, false, max), (vec![1, 2, 3], false));
    assert_eq!(page(0, u64::MAX, 3, true, max), (vec![18, 19, 20], false));
    assert_eq!(page(5, 9, 10, false, max), (vec![6, 7, 8], false));
    assert_eq!(page(5, 9, 2, true, max), (vec![7, 8], false));
    assert_eq!(page(20, u64::MAX, 10, false, max), (vec![], false));
    assert_eq!(page(0, 1, 10, true, max), (vec![], false));
    assert_eq!(page(0, u64::MAX, 0, true, max), (vec![], false));
    // The newest are left out, but one always fits.
    assert_eq!(page(0, u64::MAX, 5, true, 2 * item), (vec![16, 17], true));
    assert_eq!(page(0, u64::MAX, 5, false, 0), (vec![1], true));
    assert_eq!(page(19, u64::MAX, 5, false, 0), (vec![20], false));
    store.close();
}

#[test]
fn search_finds_words() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.write(vec![
        session(1, "chat"),
        session(2, "cellar"),
        reply(1, 1, "The café is open"),
        said(2, 1, "is the CELLAR open-ended?", DeliveryState::Answered),
        reply(1, 2, "NOT here: \"quoted\" 100% AND so on"),
    ]);
    let cases: [(&str, &[&str]); 17] = [
        ("cafe", &["The café"]),
        ("CAFÉ", &["The café"]),
        ("open", &["is the CELLAR", "The café"]),
        ("open the", &["is the CELLAR", "The café"]),
        ("open cellar", &["is the CELLAR"]),
        ("cel", &["is the CELLAR"]),
        // Only the last word may go on.
        ("ope cellar", &[]),
        ("open-ended", &["is the CELLAR"]),
        ("ended-open", &[]),
        ("\"quoted\"", &["NOT here"]),
        ("\"", &[]),
        ("NOT", &["NOT here"]),
        ("open OR here", &[]),
        ("content:cafe", &[]),
        ("cafe)", &["The café"]),
        ("x' OR 1 --", &[]),
        ("100%", &["NOT here"]),
    ];
    for (text, expected) in cases {
        let found = store.search(text);
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    }
    // What nobody would type.
    for text in [
        "\u{0}",
        "a\u{0}b",
        "*",
        "^open",
        "NEAR(a b)",
        "{content}",
        "-",
        "+a",
        "\u{301}",
        "a \u{301}",
        "²",
    ] {
        store.search(text);
    }
    // In one session, and in those that a grant covers.
    let only = |pattern: &str| {
        let sessions = Some(SessionPattern::parse(pattern).expect("it is a pattern"));
        Grant {
            sessions,
            ..Grant::WITHOUT_TOKEN
        }
    };
    let chat = Some(id("chat"));
    assert_eq!(
        store.found(chat.clone(), Grant::WITHOUT_TOKEN, "open"),
        ["chat"]
    );
    assert_eq!(store.found(None, only("cell*"), "open"), ["cellar"]);
    assert!(store.found(chat, only("cell*"), "open").is_empty());
    assert!(store.found(None, only("x"), "open").is_empty());
    // A restart finds what was not indexed when it ended.
    store.write(vec![reply(1, 3, "openly")]);
    store.close();
    let mut store = folder.open();
    assert_eq!(store.found(None, Grant::WITHOUT_TOKEN, "open").len(), 3);
    assert_eq!(store.found(None, Grant::WITHOUT_TOKEN, "openly").len(), 1);
    store.close();
}

#[test]
fn sessions_are_listed_newest_first() {
    let folder = Folder::new();
    let mut store = folder.open();
    let start = SystemTime::now();
    let mut changes = Vec::new();
    for (number, name, after) in [(1, "a", 2), (2, "b", 3), (3, "c", 1)] {
        changes.push(session(number, name));
        changes.push(Change::Seq {
            session: SessionNumber(number),
            seq: 5,
            updated: start + Duration::from_secs(after),
        });
    }
    changes.push(reply(1, 1, "first"));
    changes.push(reply(1, 2, &"é".repeat(1_000)));
    store.write(changes);
    let mut list = |grant: Grant, limit| {
        let query = Query::Sessions {
            agent: AGENT.into(),
            grant: Arc::new(grant),
            limit,
        };
        match store.ask(query) {
            QueryAnswer::Sessions { sessions, total } => {
                let items = sessions.into_iter().map(|session| {
                    let last = session.last.map(|last| last.content.chars().count());
                    (session.id.to_string(), session.seq, last)
                });
                (items.collect::<Vec<_>>(), total)
            }
            other => panic!("{other:?}"),
        }
    };
    let (sessions, total) = list(Grant::WITHOUT_TOKEN, 2);
    // So much of its text that it can be seen that there is more than an excerpt.
    let expected = [("b".to_owned(), 5, None), ("a".to_owned(), 5, Some(201))];
    assert_eq!((&sessions[..], total), (&expected[..], 3));
    let grant = Grant {
        sessions: Some(SessionPattern::parse("c").expect("it is a pattern")),
        ..Grant::WITHOUT_TOKEN
    };
    assert_eq!(list(grant, 2), (vec![("c".to_owned(), 5, None)], 1));
    store.close();
}

#[test]
fn verdicts_are_kept() {
    let folder = Folder::new();
    let mut store = folder.open();
    let verdict = |number: usize| Verdict {
        request_id: number.to_string().as_str().into(),
        tool_name: "Bash".into(),
        description: "ls".into(),
        allowed: number.is_multiple_of(2),
        by: "ann".into(),
        ts: TS.into(),
    };
    let change = |number, agent: &str| Change::Verdict {
        agent: agent.into(),
        verdict: verdict(number),
    };
    let mut changes: Vec<_> = (1..=1_010).map(|number| change(number, AGENT)).collect();
    changes.push(change(1, "other"));
    store.write(changes);
    store.close();
    let mut store = folder.open();
    let mut verdicts = |agent: &str, limit| {
        let query = Query::Verdicts {
            agent: agent.into(),
            limit,
        };
        match store.ask(query) {
            QueryAnswer::Verdicts(verdicts) => verdicts,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(verdicts(AGENT, 2), [verdict(1_009), verdict(1_010)]);
    assert_eq!(verdicts(AGENT, usize::MAX).len(), 1_000);
    assert_eq!(verdicts("other", 5), [verdict(1)]);
    assert!(verdicts("nobody", 5).is_empty());
    store.close();
}

#[test]
fn removed_sessions_are_gone_from_the_files() {
    let folder = Folder::new();
    let changes = vec![
        session(1, "secrets"),
        session(2, "chat"),
        said(1, 1, "xylophone is the password", DeliveryState::Queued),
        reply(1, 2, &"xylophone ".repeat(1_000)),
        reply(2, 1, "harmless"),
    ];
    let selection = Selection::Session {
        agent: Some(AGENT.to_owned()),
        session: id("secrets"),
    };
    // By the server…
    let mut store = folder.open();
    store.write(changes.clone());
    assert_eq!(store.search("xylophone").len(), 2);
    assert!(folder.holds("xylophone") && folder.holds("secrets"));
    store.write(vec![Change::Remove(selection.clone())]);
    assert!(store.search("xylophone").is_empty());
    assert!(store.session("secrets").is_none());
    assert_eq!(texts(&store.messages(2)), ["harmless"]);
    store.close();
    assert!(!folder.holds("xylophone") && !folder.holds("secrets"));
    // Its number is not given again.
    let mut store = folder.open();
    assert_eq!(store.opened.next_session, 3);
    store.write(changes);
    store.close();
    // …and without one.
    let removed = folder.data().remove(&selection).expect("it can be removed");
    assert_eq!(removed.sessions, 1);
    assert!(!folder.holds("xylophone") && !folder.holds("secrets"));
    let mut store = folder.open();
    assert!(store.opened.inbox.is_empty());
    assert_eq!(texts(&store.messages(2)), ["harmless"]);
    store.write(vec![Change::Remove(Selection::Agent(AGENT.to_owned()))]);
    assert!(store.session("chat").is_none());
    store.close();
    assert!(!folder.holds("harmless") && !folder.holds(AGENT));
}

#[test]
fn long_session_is_removed_and_overwritten() {
    let folder = Folder::new();
    // Words that are nowhere else, of which none is like another.
    let text = |seq| {
        (0..20)
            .map(|word| format!("xylo{seq}x{word} "))
            .collect::<String>()
    };
    let mut store = folder.open();
    let long = (1..=4_000).map(|seq| reply(1, seq, &text(seq)));
    let changes = [session(1, "long"), session(2, "chat")];
    store.write(changes.into_iter().chain(long).collect());
    store.write(vec![reply(2, 1, "harmless words")]);
    assert_eq!(store.search("xylo4000x7").len(), 1);
    let selection = Selection::Session {
        agent: None,
        session: id("long"),
    };
    store.write(vec![Change::Remove(selection)]);
    assert!(store.search("xylo4000x7").is_empty());
    assert_eq!(store.search("harmless").len(), 1);
    // One message is still overwritten by itself.
    store.write(vec![session(3, "short"), reply(3, 1, "xylophone")]);
    assert_eq!(store.search("xylophone").len(), 1);
    let selection = Selection::Session {
        agent: None,
        session: id("short"),
    };
    store.write(vec![Change::Remove(selection)]);
    store.close();
    assert!(!folder.holds("xylo"));
    assert_eq!(texts(&folder.open().messages(2)), ["harmless words"]);
}

#[test]
fn everything_can_be_removed() {
    let folder = Folder::new();
    let chat = |number| -> Vec<_> {
        let replies = (1..=200).map(|seq| reply(number, seq, "xylophone"));
        [session(number, "chat")]
            .into_iter()
            .chain(replies)
            .collect()
    };
    let mut store = folder.open();
    store.write(chat(1));
    store.write(vec![Change::Remove(Selection::All)]);
    assert!(store.search("xylophone").is_empty());
    store.write(chat(2));
    assert_eq!(store.search("xylophone").len(), 10);
    let in_use = folder.data().remove(&Selection::All);
    let in_use = in_use.expect_err("it is in use").to_string();
    let process = format!("(process {})", std::process::id());
    assert!(in_use.contains(&process), "{in_use}");
    store.close();
    let removed = folder.data().remove(&Selection::All);
    assert_eq!(removed.expect("it can be removed").sessions, 1);
    assert!(!folder.database().exists());
    assert!(!folder.holds("xylophone"));
    let removed = folder.data().remove(&Selection::All);
    assert_eq!(removed.expect("nothing is there").sessions, 0);
}

#[test]
fn sizes_and_an_export_are_read_beside_a_server() {
    let folder = Folder::new();
    let chat = id("chat");
    let nothing = folder.data().inspect().expect("it can be read");
    assert!(nothing.agents.is_empty());
    let mut store = folder.open();
    store.write(vec![
        session(1, "chat"),
        session(2, "empty"),
        said(1, 1, "hi", DeliveryState::Seen),
        reply(1, 2, "ho\nho"),
    ]);
    for is_running in [true, false] {
        let sizes = folder.data().inspect().expect("it can be read");
        assert!(sizes.bytes > 1_000 && sizes.path == folder.database());
        let [agent] = &sizes.agents[..] else {
            panic!("{sizes:?}");
        };
        assert_eq!(agent.name, AGENT);
        let found: Vec<_> = agent
            .sessions
            .iter()
            .map(|session| {
                (
                    &*session.name,
                    session.messages,
                    session.bytes,
                    session.said.is_some(),
                )
            })
            .collect();
        assert_eq!(found, [("chat", 2, 7, true), ("empty", 0, 0, false)]);
        let mut out = Vec::new();
        let lines = folder.data().export(Some(AGENT), &chat, &mut out);
        assert_eq!(lines.expect("it can be exported"), 2);
        let out = String::from_utf8(out).expect("it is text");
        let lines: Vec<Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).expect("it is JSON"))
            .collect();
        let user = json!({
            "session_id": "chat", "agent": AGENT, "id": "key-1", "role": "user", "content": "hi", "ts": TS,
            "message_id": message(1, "").id, "seq": 1, "user": "ann", "state": "seen",
        });
        assert_eq!(lines[0], user);
        assert_eq!(lines[1]["content"], "ho\nho");
        assert_eq!(lines[1].get("id"), None);
        if is_running {
            store.store.write(Vec::new());
        }
    }
    let missing = folder.data().export(None, &id("nobody"), &mut Vec::new());
    let missing = missing.expect_err("it is not there").to_string();
    assert!(missing.contains("no session \"nobody\""), "{missing}");
    assert_eq!(store::data::ports(&folder.store()), [PORT]);
    store.close();
}

#[test]
fn old_messages_are_removed() {
    let folder = Folder::new();
    let mut store = folder.open();
    let mut changes = vec![session(1, "chat"), session(2, "empty")];
    changes.extend((1..=100).map(|seq| said(1, seq, "xylophone", DeliveryState::Answered)));
    changes.push(unread(1, 100));
    store.write(changes);
    store.close();
    let options = Options {
        ttl: Duration::ZERO,
        ..folder.options()
    };
    let mut store = Running::start(options);
    // Nothing but an answer to wait for.
    while let StoreInput::Removed(removed) = next(&store.reports) {
        if removed.contains(&(SessionNumber(1), 101)) {
            break;
        }
    }
    assert!(store.messages(1).is_empty());
    assert!(store.search("xylophone").is_empty());
    let session = store
        .session("chat")
        .expect("its name stays while it may be open");
    assert_eq!((session.removed_before, session.keys), (101, 100));
    assert!(session.unread.is_empty());
    assert!(
        store.session("empty").is_none(),
        "nothing was ever said there"
    );
    store.write(vec![reply(1, 101, "later")]);
    assert_eq!(texts(&store.messages(1)), ["later"]);
    store.close();
    assert!(!folder.holds("xylophone"));
}

#[test]
fn oldest_messages_make_room() {
    const MAX: u64 = 1024 * 1024;
    let folder = Folder::new();
    let options = Options {
        max_bytes: MAX,
        ..folder.options()
    };
    let mut store = Running::start(options);
    store.write(vec![session(1, "one"), session(2, "two")]);
    let text = "lorem ipsum ".repeat(80);
    for seq in 1..=1_000 {
        store.send(vec![reply(1, seq, &text), reply(2, seq, &text)]);
        if seq == 5 {
            store.send(vec![
                unread(1, 5),
                said(2, 2_000, "waits", DeliveryState::Queued),
            ]);
        }
    }
    store.write(vec![reply(1, 1_001, "last")]);
    let bytes: u64 = ["", "-wal"]
        .iter()
        .map(|end| fs::metadata(with_end(&folder.database(), end)).map_or(0, |file| file.len()))
        .sum();
    // The log is 2 MiB at most, and all that came while the store was at work.
    assert!(bytes < 8 * MAX, "{bytes}");
    // Until nothing is left to remove, they are removed a few at a time.
    let left = loop {
        let left = [1, 2].map(|number| store.messages(number));
        if left.iter().all(|messages| messages.len() < 300) {
            break left;
        }
    };
    let seqs: Vec<Vec<_>> = left
        .iter()
        .map(|messages| messages.iter().map(|message| message.seq).collect())
        .collect();
    assert_eq!(seqs[0][0], 5, "nobody has received it");
    assert_eq!(seqs[1].last(), Some(&2_000), "it waits");
    // Both lose about the same, and the newest stay.
    let starts = [seqs[0][1], seqs[1][0]];
    assert!(starts[0].abs_diff(starts[1]) <= 64, "{starts:?}");
    assert_eq!(seqs[0].last(), Some(&1_001));
    for (name, start) in [("one", starts[0]), ("two", starts[1])] {
        let session = store.session(name).expect("it is there");
        assert!(session.removed_before <= start && session.removed_before > 5);
    }
    store.close();
}

#[test]
fn commit_of_5000_messages_is_one() {
    let folder = Folder::new();
    let mut store = folder.open();
    let mut changes = vec![session(1, "chat")];
    changes.extend((1..=5_000).map(|seq| said(1, seq, "a text", DeliveryState::Accepted)));
    store.send(changes);
    assert!(matches!(next(&store.reports), StoreInput::Stored(5_001)));
    assert_eq!(store.messages(1).len(), 5_000);
    store.close();
}

#[test]
fn database_of_version_1_can_be_read() {
    let folder = Folder::new();
    fs::create_dir_all(folder.store()).expect("the folder can be made");
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store-v1.db");
    fs::copy(stored, folder.database()).expect("the file can be copied");
    set_mode(&folder.database(), 0o600);
    set_mode(&folder.store(), 0o700);
    let options = Options {
        ttl: Duration::from_hours(24 * 365 * 1_000),
        ..folder.options()
    };
    let mut store = Running::start(options);
    assert_eq!(store.opened.next_session, 3);
    let inbox: Vec<_> = store
        .opened
        .inbox
        .iter()
        .map(|item| item.message.seq)
        .collect();
    assert_eq!(inbox, [3]);
    let messages = store.messages(1);
    assert_eq!(texts(&messages), ["Hello", "Café?", "waits"]);
    assert_eq!(messages[0].user(), Some("ann"));
    assert_eq!(&*messages[1].ts, "yesterday");
    assert_eq!(store.search("cafe"), ["Café?"]);
    let session = store.session("chat").expect("it is there");
    assert_eq!(
        (session.seq, session.keys, session.unread.len()),
        (20, 2, 1)
    );
    store.close();
}

/// Writes the database that [`database_of_version_1_can_be_read`] reads. It was run once.
#[test]
#[ignore = "it writes a file that must stay as it is"]
fn write_database_of_version_1() {
    let folder = Folder::new();
    let mut store = folder.open();
    let mut old = reply(1, 2, "Café?");
    if let Change::Message { message, .. } = &mut old {
        let author = Author::Assistant { via: None };
        let (id, content) = (message.id, message.content.clone());
        *message = Arc::new(Message::restored(
            id,
            2,
            author,
            content,
            "yesterday".into(),
            None,
        ));
    }
    store.write(vec![
        session(1, "chat"),
        session(2, "empty"),
        said(1, 1, "Hello", DeliveryState::Answered),
        old,
        unread(1, 2),
        said(1, 3, "waits", DeliveryState::Queued),
        Change::Seq {
            session: SessionNumber(1),
            seq: 20,
            updated: SystemTime::now(),
        },
    ]);
    assert_eq!(store.search("cafe"), ["Café?"]);
    store.close();
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store-v1.db");
    fs::copy(folder.database(), stored).expect("the file can be copied");
}

/// Returns why a store can't be opened.
fn refusal(folder: &Folder) -> String {
    let (store, reports) = store::start(folder.options()).expect("threads can be started");
    assert!(matches!(next(&reports), StoreInput::Unavailable));
    let State::Unavailable(why) = store.health().state.clone() else {
        panic!("{:?}", store.health());
    };
    // Nothing waits for it.
    store.write(vec![session(1, "chat")]);
    assert!(!store.is_behind());
    store.ask(
        QueryId(1),
        Query::Verdicts {
            agent: AGENT.into(),
            limit: 1,
        },
    );
    let answer = next(&reports);
    assert!(
        matches!(answer, StoreInput::Answer(QueryId(1), QueryAnswer::Failed)),
        "{answer:?}"
    );
    assert!(!store.close(Instant::now() + PATIENCE));
    why.to_string()
}

#[test]
fn files_of_others_are_refused() {
    type Spoil = fn(&Folder);
    let cases: [(Spoil, &str); 6] = [
        (
            |folder| set_mode(&folder.database(), 0o640),
            "other users may open the file; run: chmod 600",
        ),
        (
            |folder| set_mode(&folder.store(), 0o770),
            "other users may write to the folder; run: chmod 700",
        ),
        (
            |folder| {
                let moved = folder.0.join("moved.db");
                fs::rename(folder.database(), &moved).expect("it can be renamed");
                symlink(&moved, folder.database()).expect("a link can be made");
            },
            "that is a symbolic link; put the file itself there",
        ),
        (
            |folder| {
                let moved = folder.0.join("moved");
                fs::rename(folder.store(), &moved).expect("it can be renamed");
                symlink(&moved, folder.store()).expect("a link can be made");
            },
            "a symbolic link or no folder; put a folder there",
        ),
        (
            |folder| {
                let database = rusqlite::Connection::open(folder.database()).expect("it opens");
                let newer = database.pragma_update(None, "user_version", 99);
                newer.expect("it can be changed");
            },
            "are of version 99, which a newer claude-socket has written, so they are left alone",
        ),
        (
            |folder| {
                let database = rusqlite::Connection::open(folder.database()).expect("it opens");
                let other = database.pragma_update(None, "application_id", 1);
                other.expect("it can be changed");
            },
            "is a database of another program",
        ),
    ];
    for (spoil, why) in cases {
        let folder = Folder::new();
        let mut store = folder.open();
        store.write(vec![session(1, "chat"), reply(1, 1, "text")]);
        store.close();
        spoil(&folder);
        let before = fs::read(folder.database()).expect("it can be read");
        let refusal = refusal(&folder);
        assert!(refusal.contains(why), "{refusal}");
        assert!(
            refusal.contains(&folder.store().display().to_string()),
            "{refusal}"
        );
        assert_eq!(fs::read(folder.database()).ok(), Some(before), "{why}");
    }
}

#[test]
fn files_are_for_this_user_alone() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.write(vec![session(1, "chat")]);
    let mode = |path: &Path| {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(&folder.store()), 0o700);
    let entries = fs::read_dir(folder.store()).expect("it can be read");
    let modes: Vec<_> = entries
        .flatten()
        .map(|entry| (entry.file_name(), mode(&entry.path())))
        .collect();
    assert_eq!(modes.len(), 4, "{modes:?}");
    assert!(modes.iter().all(|(_, mode)| *mode == 0o600), "{modes:?}");
    store.close();
}

#[test]
fn second_process_waits_for_the_store() {
    let folder = Folder::new();
    let mut first = folder.open();
    first.write(vec![session(1, "chat"), reply(1, 1, "text")]);
    let (second, reports) = store::start(folder.options()).expect("threads can be started");
    assert!(matches!(next(&reports), StoreInput::Unavailable));
    let health = second.health();
    let why = health.state.sentence().expect("it says why");
    let process = format!(
        "used by another claude-socket (process {})",
        std::process::id()
    );
    assert!(why.contains(&process), "{why}");
    first.close();
    // What was said meanwhile is not asked for.
    second.write(vec![session(9, "lost")]);
    let mut second = Running::when_open(second, reports);
    second.sent = 1;
    assert_eq!(second.opened.next_session, 2);
    second.write(vec![reply(1, 2, "more")]);
    assert_eq!(texts(&second.messages(1)), ["text", "more"]);
    second.close();
}

#[test]
fn removed_or_replaced_file_is_noticed() {
    for is_replaced in [false, true] {
        let folder = Folder::new();
        let other = Folder::new();
        let mut store = other.open();
        store.write(vec![session(1, "other"), reply(1, 1, "other")]);
        store.close();
        let mut store = folder.open();
        store.write(vec![session(1, "chat"), reply(1, 1, "text")]);
        assert_eq!(store.messages(1).len(), 1);
        if is_replaced {
            fs::rename(other.database(), folder.database()).expect("it can be renamed");
        } else {
            fs::remove_file(folder.database()).expect("it can be removed");
        }
        store.send(vec![reply(1, 2, "more")]);
        assert!(matches!(
            next(&store.reports),
            StoreInput::Recovered { must_resend: true }
        ));
        assert!(matches!(next(&store.reports), StoreInput::Stored(3)));
        // All of it comes once more, the last twice.
        store.write(vec![
            session(1, "chat"),
            reply(1, 1, "text"),
            reply(1, 2, "more"),
        ]);
        assert_eq!(texts(&store.messages(1)), ["text", "more"]);
        assert_eq!(store.search("text"), ["text"]);
        assert_eq!(store.search("more"), ["more"]);
        store.close();
        let aside = folder.data().inspect().expect("it can be read").aside;
        assert_eq!(aside.len(), usize::from(is_replaced));
        assert_eq!(texts(&folder.open().messages(1)), ["text", "more"]);
    }
}

#[test]
fn damaged_file_is_set_aside() {
    let folder = Folder::new();
    let mut store = folder.open();
    let mut changes = vec![session(1, "chat")];
    changes.extend((1..=2_000).map(|seq| reply(1, seq, "some text")));
    store.write(changes);
    store.close();
    // Blocks of the disk in the middle. The first ones are read when it is opened.
    let mut bytes = fs::read(folder.database()).expect("it can be read");
    let block = bytes.len() / 2 / 4_096;
    bytes[(block - 4) * 4_096..(block + 4) * 4_096].fill(0xa5);
    fs::write(folder.database(), &bytes).expect("it can be written");
    let mut store = folder.open();
    let query = Query::Messages {
        session: SessionNumber(1),
        span: Span::ALL,
        room: usize::MAX,
    };
    store.store.ask(QueryId(0), query);
    // Both threads may meet it first.
    let mut is_new = false;
    while !is_new {
        match next(&store.reports) {
            StoreInput::Answer(..) | StoreInput::Removed(_) => {}
            StoreInput::Recovered { must_resend: true } => is_new = true,
            other => panic!("{other:?}"),
        }
    }
    store.write(vec![session(1, "chat"), reply(1, 2_001, "goes on")]);
    assert_eq!(texts(&store.messages(1)), ["goes on"]);
    store.close();
    let sizes = folder.data().inspect().expect("it can be read");
    assert_eq!(sizes.aside.len(), 1, "{sizes:?}");
    assert!(sizes.aside[0].0.ends_with("8765.damaged-1.db"), "{sizes:?}");
    // What isn't a database at all.
    fs::write(folder.database(), "nonsense".repeat(1_000)).expect("it can be written");
    let mut store = folder.open();
    assert!(store.session("chat").is_none());
    store.close();
    let sizes = folder.data().inspect().expect("it can be read");
    assert_eq!(sizes.aside.len(), 2, "{sizes:?}");
    folder
        .data()
        .remove(&Selection::All)
        .expect("it can be removed");
    assert!(!folder.holds("some text") && !folder.holds("nonsense"));
}

#[test]
fn locked_database_delays_what_is_written() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.write(vec![session(1, "chat"), reply(1, 1, "text")]);
    let other = rusqlite::Connection::open(folder.database()).expect("it opens");
    other
        .execute_batch("BEGIN IMMEDIATE")
        .expect("it can be locked");
    store.send(vec![reply(1, 2, "more")]);
    assert!(matches!(next(&store.reports), StoreInput::Failing));
    assert_eq!(texts(&store.messages(1)), ["text"], "it can be read");
    let health = store.store.health();
    let why = health.state.sentence().expect("it says why");
    assert!(
        why.contains("cannot be written to") && why.contains("locked"),
        "{why}"
    );
    other.execute_batch("COMMIT").expect("it can be unlocked");
    assert!(matches!(
        next(&store.reports),
        StoreInput::Recovered { must_resend: false }
    ));
    assert!(matches!(next(&store.reports), StoreInput::Stored(3)));
    assert_eq!(store.store.health().state, State::Open);
    assert_eq!(texts(&store.messages(1)), ["text", "more"]);
    store.close();
}

/// A small file system of the test's own; `None` where that isn't allowed.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Folder) -> Option<Self> {
        let disk = Self(folder.0.join("disk"));
        fs::create_dir_all(&disk.0).expect("the folder can be made");
        let mounted = disk.run(
            "mount",
            &["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"],
        );
        if !mounted {
            eprintln!("nothing can be mounted here: this is not tested");
        }
        mounted.then_some(disk)
    }

    fn remount(&self, mode: &str) {
        assert!(self.run("mount", &["-o", &format!("remount,{mode}")]));
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(program);
        let command = command.args(arguments).arg(&self.0).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.run("umount", &["-l"]);
    }
}

#[test]
fn full_disk_delays_what_is_written() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(&folder) else {
        return;
    };
    let options = || Options {
        folder: disk.0.join("store"),
        ..folder.options()
    };
    let mut store = Running::start(options());
    store.write(vec![session(1, "chat"), reply(1, 1, "text")]);
    let ballast = disk.0.join("ballast");
    // As much as fits.
    let _ = fs::write(&ballast, vec![0; 2 * 1024 * 1024]);
    let text = "long ".repeat(1_000);
    let mut seq = 1;
    while store.store.health().state == State::Open {
        seq += 1;
        store.send(vec![reply(1, seq, &text)]);
        match next(&store.reports) {
            StoreInput::Stored(_) => {}
            StoreInput::Failing => break,
            other => panic!("{other:?}"),
        }
    }
    let health = store.store.health();
    let why = health.state.sentence().expect("it says why");
    assert!(why.contains("the disk is full"), "{why}");
    assert!(!store.store.is_behind());
    fs::remove_file(&ballast).expect("it can be removed");
    assert!(matches!(
        next(&store.reports),
        StoreInput::Recovered { must_resend: false }
    ));
    assert!(matches!(next(&store.reports), StoreInput::Stored(_)));
    assert_eq!(store.messages(1).len() as u64, seq);
    // So much that not all can be kept.
    let _ = fs::write(&ballast, vec![0; 2 * 1024 * 1024]);
    let huge = "huge ".repeat(100_000);
    for more in 1..=20 {
        store.send(vec![reply(1, seq + more, &huge)]);
    }
    store.send(vec![reply(1, seq + 21, "last")]);
    assert!(matches!(next(&store.reports), StoreInput::Failing));
    store.close_in_vain();
    fs::remove_file(&ballast).expect("it can be removed");
    let mut store = Running::start(options());
    assert!(store.messages(1).len() as u64 >= seq);
    store.close();
}

#[test]
fn read_only_disk_is_used_when_it_can_be_written() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(&folder) else {
        return;
    };
    let options = || Options {
        folder: disk.0.join("store"),
        ..folder.options()
    };
    let mut store = Running::start(options());
    store.write(vec![session(1, "chat"), reply(1, 1, "text")]);
    store.close();
    disk.remount("ro");
    let (store, reports) = store::start(options()).expect("threads can be started");
    assert!(matches!(next(&reports), StoreInput::Unavailable));
    let health = store.health();
    let why = health.state.sentence().expect("it says why");
    assert!(why.contains("Read-only file system"), "{why}");
    disk.remount("rw");
    let mut store = Running::when_open(store, reports);
    assert_eq!(texts(&store.messages(1)), ["text"]);
    store.write(vec![reply(1, 2, "more")]);
    store.close();
}

#[test]
fn too_much_that_cannot_be_written_is_asked_for_again() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.write(vec![session(1, "chat")]);
    let other = rusqlite::Connection::open(folder.database()).expect("it opens");
    other
        .execute_batch("BEGIN IMMEDIATE")
        .expect("it can be locked");
    let text = "long ".repeat(100_000);
    store.send(vec![reply(1, 1, "first")]);
    assert!(matches!(next(&store.reports), StoreInput::Failing));
    for seq in 2..=40 {
        store.send(vec![reply(1, seq, &text)]);
    }
    assert!(!store.store.is_behind(), "nothing waits for it");
    assert!(
        store.store.health().pending < 30,
        "{:?}",
        store.store.health()
    );
    other.execute_batch("COMMIT").expect("it can be unlocked");
    assert!(matches!(
        next(&store.reports),
        StoreInput::Recovered { must_resend: true }
    ));
    assert!(matches!(next(&store.reports), StoreInput::Stored(41)));
    store.close();
}

#[test]
fn much_that_waits_holds_clients_back() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.write(vec![session(1, "chat")]);
    let other = rusqlite::Connection::open(folder.database()).expect("it opens");
    other
        .execute_batch("BEGIN IMMEDIATE")
        .expect("it can be locked");
    let text = "long ".repeat(100_000);
    for seq in 1..=3 {
        store.send(vec![reply(1, seq, &text)]);
    }
    assert!(store.store.is_behind());
    other.execute_batch("COMMIT").expect("it can be unlocked");
    store.write(vec![reply(1, 4, "last")]);
    assert!(!store.store.is_behind());
    store.close();
}
