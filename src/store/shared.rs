//! What the threads of a store share with the hub's thread: what waits to be written, and how the store is. The hub's
//! thread takes the lock only for as long as it takes to add to a queue.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustc_hash::FxHashMap;

use super::health::{Health, State};
use crate::hub::stored::{Change, QueryAnswer, QueryId, StoreInput};

/// With so many changes, or bytes of them, that wait to be written, nothing more should be taken from clients, until it is
/// half of that. What is held then waits for a commit: with four times as much, a message beside one client that sent the
/// longest ones waited 188 ms (p99) instead of 55.
const BEHIND_CHANGES: usize = 8 * 1024;
const BEHIND_BYTES: usize = 1024 * 1024;
/// While nothing can be written, so many are kept, and so many bytes of them.
const KEPT_CHANGES: usize = 64 * 1024;
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// A disk that takes longer than this to write fails.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A question that isn't answered by then fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether the disk hangs, while something waits for it.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a search waits for what was said last to be indexed.
const INDEX_TIMEOUT: Duration = Duration::from_secs(2);

/// The memory of a change beside a message's, in bytes.
const CHANGE_BYTES: usize = size_of::<Change>();

/// What is shared, and the reports that go to the hub.
pub struct Shared {
    inner: Mutex<Inner>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes the watch.
    watch: Condvar,
    reports: Sender<StoreInput>,
}

struct Inner {
    state: State,
    /// What waits for the writer.
    batches: Vec<Vec<Change>>,
    /// The changes that are not on disk, with those that the writer has taken, and their bytes.
    pending: Pending,
    /// Of them, those that the writer has taken.
    taken: Pending,
    /// All changes that ever came.
    pushed: u64,
    /// Those that are on disk.
    position: u64,
    is_behind: bool,
    /// Changes were dropped: the hub must send all again.
    has_dropped: bool,
    /// Since when the writer has been writing.
    writing_since: Option<Instant>,
    /// The questions that are not answered, and when they were asked.
    questions: FxHashMap<QueryId, Instant>,
    /// Those who wait for all messages to be indexed.
    index: Vec<Sender<()>>,
    /// The reader has found that the database is damaged.
    is_damaged: bool,
    is_closing: bool,
    /// Nobody will come any more.
    has_ended: bool,
    is_watched: bool,
    bytes: u64,
    /// Counts how often the database was opened: who has an older one opens it again. 0: it can't be read.
    generation: u64,
    last_generation: u64,
}

#[derive(Clone, Copy, Default)]
struct Pending {
    changes: usize,
    bytes: usize,
}

impl Pending {
    fn of(changes: &[Change]) -> Self {
        let bytes = |change: &Change| match change {
            Change::Message { message, .. } => CHANGE_BYTES + message.bytes(),
            _ => CHANGE_BYTES,
        };
        Self {
            changes: changes.len(),
            bytes: changes.iter().map(bytes).sum(),
        }
    }

    fn add(&mut self, other: Self) {
        self.changes += other.changes;
        self.bytes += other.bytes;
    }

    fn subtract(&mut self, other: Self) {
        self.changes -= other.changes;
        self.bytes -= other.bytes;
    }

    fn exceeds(self, changes: usize, bytes: usize) -> bool {
        self.changes > changes || self.bytes > bytes
    }
}

/// What the writer has to do.
pub struct Work {
    pub batches: Vec<Vec<Change>>,
    /// With these, so many changes have come.
    pub pushed: u64,
    /// Changes before these are missing.
    pub has_dropped: bool,
    /// Those who wait for all messages to be indexed.
    pub index: Vec<Sender<()>>,
    pub is_damaged: bool,
    pub is_closing: bool,
}

impl Shared {
    pub fn new(reports: Sender<StoreInput>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                state: State::Opening,
                batches: Vec::new(),
                pending: Pending::default(),
                taken: Pending::default(),
                pushed: 0,
                position: 0,
                is_behind: false,
                has_dropped: false,
                writing_since: None,
                questions: FxHashMap::default(),
                index: Vec::new(),
                is_damaged: false,
                is_closing: false,
                has_ended: false,
                is_watched: false,
                bytes: 0,
                generation: 0,
                last_generation: 0,
            }),
            work: Condvar::new(),
            watch: Condvar::new(),
            reports,
        }
    }

    /// Tells the hub something. It may have ended.
    pub fn report(&self, report: StoreInput) {
        let _ = self.reports.send(report);
    }

    /// Adds changes that are to be written.
    pub fn push(&self, changes: Vec<Change>) {
        let mut inner = self.inner.lock();
        inner.pushed += changes.len() as u64;
        if matches!(inner.state, State::Unavailable(_)) {
            inner.has_dropped = true;
            return;
        }
        inner.pending.add(Pending::of(&changes));
        inner.batches.push(changes);
        if matches!(inner.state, State::Failing(_)) {
            inner.drop_excess();
        } else if inner.pending.exceeds(BEHIND_CHANGES, BEHIND_BYTES) {
            inner.is_behind = true;
        }
        self.watch(&mut inner);
        self.work.notify_one();
    }

    /// Has the watch look whether what waits is done in time.
    fn watch(&self, inner: &mut MutexGuard<'_, Inner>) {
        if !inner.is_watched {
            inner.is_watched = true;
            self.watch.notify_one();
        }
    }

    pub fn is_behind(&self) -> bool {
        let inner = self.inner.lock();
        inner.is_behind && matches!(inner.state, State::Opening | State::Open)
    }

    pub fn health(&self) -> Health {
        let inner = self.inner.lock();
        Health {
            state: inner.state.clone(),
            bytes: inner.bytes,
            position: inner.position,
            pending: inner.pending.changes,
        }
    }

    pub fn set_bytes(&self, bytes: u64) {
        self.inner.lock().bytes = bytes;
    }

    /// Has the writer end when everything is written.
    pub fn close(&self) {
        self.inner.lock().is_closing = true;
        self.work.notify_one();
    }

    /// Ends the watch.
    pub fn end(&self) {
        self.inner.lock().has_ended = true;
        self.watch.notify_one();
    }

    /// Waits until there is something to do, or until the deadline. Takes it all: what waits becomes one commit.
    pub fn wait(&self, deadline: Option<Instant>) -> Work {
        let mut inner = self.inner.lock();
        while inner.is_idle() {
            let Some(deadline) = deadline else {
                self.work.wait(&mut inner);
                continue;
            };
            if self.work.wait_until(&mut inner, deadline).timed_out() {
                break;
            }
        }
        inner.take()
    }

    /// Waits before something is tried again. Returns `false` at once if the store is to be closed.
    pub fn pause(&self, deadline: Instant) -> bool {
        let mut inner = self.inner.lock();
        while !inner.is_closing {
            if self.work.wait_until(&mut inner, deadline).timed_out() {
                return true;
            }
        }
        false
    }

    /// Returns `true` if something waits to be written.
    pub fn is_busy(&self) -> bool {
        !self.inner.lock().batches.is_empty()
    }

    /// Takes what waits, without waiting.
    pub fn take(&self) -> Work {
        self.inner.lock().take()
    }

    /// Records that the writer begins to write.
    pub fn begin_writing(&self) {
        let mut inner = self.inner.lock();
        inner.writing_since = Some(Instant::now());
        self.watch(&mut inner);
    }

    /// Records that the writer doesn't write any more. Returns `true` if that was believed to fail.
    pub fn end_writing(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.writing_since = None;
        matches!(inner.state, State::Failing(_))
    }

    /// Records that all changes that the writer has taken are on disk, of those that have come the first `position`.
    pub fn written(&self, position: u64) {
        let mut inner = self.inner.lock();
        let taken = std::mem::take(&mut inner.taken);
        inner.pending.subtract(taken);
        inner.position = position;
        if !inner.pending.exceeds(BEHIND_CHANGES / 2, BEHIND_BYTES / 2) {
            inner.is_behind = false;
        }
    }

    /// Sets what the store can do. Returns what it was.
    pub fn set_state(&self, state: State) -> State {
        let mut inner = self.inner.lock();
        let before = std::mem::replace(&mut inner.state, state);
        match inner.state {
            State::Failing(_) => inner.drop_excess(),
            State::Unavailable(_) => inner.drop_all(),
            // The hub was told nothing, or that nothing is kept.
            State::Open if !matches!(before, State::Failing(_)) => inner.has_dropped = false,
            State::Opening | State::Open => {}
        }
        before
    }

    /// Records that the database can be read, or can't.
    pub fn set_readable(&self, is_readable: bool) {
        let mut inner = self.inner.lock();
        if is_readable && inner.generation == 0 {
            inner.last_generation += 1;
            inner.generation = inner.last_generation;
        } else if !is_readable {
            inner.generation = 0;
        }
    }

    /// Counts how often the database was opened; 0 if it can't be read now.
    pub fn generation(&self) -> u64 {
        self.inner.lock().generation
    }

    /// Reports that the database of this generation is damaged.
    pub fn report_damage(&self, generation: u64) {
        let mut inner = self.inner.lock();
        if inner.generation == generation {
            inner.is_damaged = true;
            self.work.notify_one();
        }
    }

    /// Records a question.
    pub fn asked(&self, id: QueryId) {
        let mut inner = self.inner.lock();
        inner.questions.insert(id, Instant::now());
        self.watch(&mut inner);
    }

    /// Answers a question, unless it has failed meanwhile.
    pub fn answer(&self, id: QueryId, answer: QueryAnswer) {
        let is_asked = self.inner.lock().questions.remove(&id).is_some();
        if is_asked {
            self.report(StoreInput::Answer(id, answer));
        }
    }

    /// Has all messages indexed, and waits for it, but not for long.
    pub fn index(&self) {
        let (done, receiver): (Sender<()>, Receiver<()>) = bounded(1);
        let mut inner = self.inner.lock();
        if inner.state != State::Open || inner.is_closing {
            return;
        }
        inner.index.push(done);
        self.work.notify_one();
        drop(inner);
        let _ = receiver.recv_timeout(INDEX_TIMEOUT);
    }

    /// Looks whether the disk hangs, as long as something waits for it. Returns when the store ends.
    pub fn watch_disk(&self, failing: &str) {
        let mut inner = self.inner.lock();
        while !inner.has_ended {
            if !inner.is_watched {
                self.watch.wait(&mut inner);
                continue;
            }
            let next = Instant::now() + WATCH_INTERVAL;
            while !inner.has_ended && !self.watch.wait_until(&mut inner, next).timed_out() {}
            let hangs = inner
                .writing_since
                .is_some_and(|since| since.elapsed() >= WRITE_TIMEOUT);
            if hangs && inner.state == State::Open {
                log::error!("{failing}");
                inner.state = State::Failing(failing.into());
                inner.drop_excess();
                self.report(StoreInput::Failing);
            }
            let failed: Vec<_> = inner
                .questions
                .extract_if(|_, asked| asked.elapsed() >= ANSWER_TIMEOUT)
                .collect();
            for (id, _) in failed {
                self.report(StoreInput::Answer(id, QueryAnswer::Failed));
            }
            inner.is_watched = inner.writing_since.is_some() || !inner.questions.is_empty();
        }
    }
}

impl Inner {
    fn is_idle(&self) -> bool {
        self.batches.is_empty() && self.index.is_empty() && !self.is_damaged && !self.is_closing
    }

    fn take(&mut self) -> Work {
        self.taken = self.pending;
        Work {
            batches: std::mem::take(&mut self.batches),
            pushed: self.pushed,
            has_dropped: std::mem::take(&mut self.has_dropped),
            index: std::mem::take(&mut self.index),
            is_damaged: std::mem::take(&mut self.is_damaged),
            is_closing: self.is_closing,
        }
    }

    /// Drops the changes that wait if there is no room for them. The hub will send what it knows.
    fn drop_excess(&mut self) {
        if self.pending.exceeds(KEPT_CHANGES, KEPT_BYTES) {
            self.drop_all();
        }
    }

    fn drop_all(&mut self) {
        if !self.batches.is_empty() {
            self.batches = Vec::new();
            self.pending = self.taken;
            self.has_dropped = true;
        }
    }
}
