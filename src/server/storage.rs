//! The store, beside the loop: it is started when the port is taken, gets what each turn has changed and asked for, and
//! what it reports goes to the hub. Nothing here waits for it.

use std::time::Instant;

use crossbeam_channel::{Receiver, never};
use log::{error, info, warn};

use super::main_loop::Server;
use crate::health::{StoreHealth, StoreState};
use crate::hub::Input;
use crate::hub::stored::StoreInput;
use crate::store::{self, Store};

/// The store, if there is one, and how far it is.
pub struct Storage {
    /// Where it will be started; `None` if nothing is kept on disk, or it was started.
    options: Option<store::Options>,
    store: Option<Store>,
    /// What it reports; nothing while there is none.
    inputs: Receiver<StoreInput>,
    /// How many changes it was given.
    given: u64,
    /// How many of them are on disk, as far as the hub knows.
    stored: u64,
    /// It has so much to write that nothing more may be taken.
    is_behind: bool,
    /// Nothing can be written now.
    is_failing: bool,
    /// Why there is none, for people.
    problem: Option<String>,
}

impl Storage {
    /// Returns a store that isn't started yet; without options, none.
    pub fn new(options: Option<store::Options>) -> Self {
        Self {
            options,
            store: None,
            inputs: never(),
            given: 0,
            stored: 0,
            is_behind: false,
            is_failing: false,
            problem: None,
        }
    }

    /// What the store reports.
    pub fn inputs(&self) -> &Receiver<StoreInput> {
        &self.inputs
    }

    /// How many changes it was given, and how many of them are on disk.
    pub fn progress(&self) -> (u64, u64) {
        (self.given, self.stored)
    }

    /// Returns `true` while nothing can be written.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Returns `true` while senders and the agent must wait for it.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Returns `true` if changes will be on disk, and are not yet.
    pub fn is_writing(&self) -> bool {
        self.stored < self.given && !self.is_failing
    }

    /// Returns how it is.
    pub fn health(&self) -> StoreHealth {
        let Some(store) = &self.store else {
            let state = match (&self.problem, &self.options) {
                (Some(_), _) => StoreState::Unavailable,
                (None, Some(_)) => StoreState::Opening,
                (None, None) => StoreState::Off,
            };
            return StoreHealth {
                state,
                problem: self.problem.clone(),
                ..StoreHealth::default()
            };
        };
        let health = store.health();
        StoreHealth {
            state: match health.state {
                store::State::Opening => StoreState::Opening,
                store::State::Open => StoreState::Open,
                store::State::Failing(_) => StoreState::Failing,
                store::State::Unavailable(_) => StoreState::Unavailable,
            },
            bytes: health.bytes,
            pending: health.pending as u64,
            problem: health.state.sentence().map(str::to_owned),
        }
    }

    /// Starts the store, which opens beside. Returns `false` if the system has no thread left for it.
    fn start(&mut self, options: store::Options) -> bool {
        let folder = options.folder.clone();
        match store::start(options) {
            Ok((store, inputs)) => {
                info!("what is said is kept in {}", folder.display());
                self.store = Some(store);
                self.inputs = inputs;
                true
            }
            Err(error) => {
                self.give_up(format!(
                    "the store cannot be started ({error}), so what is said is kept in memory only; restart Claude Code"
                ));
                false
            }
        }
    }

    /// There is no store any more.
    fn give_up(&mut self, why: String) {
        error!("{why}");
        *self = Self {
            problem: Some(why),
            ..Self::new(None)
        };
    }

    /// Notes what the store reports.
    fn note(&mut self, input: &StoreInput) {
        match input {
            StoreInput::Stored(count) => self.stored = *count,
            StoreInput::Failing | StoreInput::Unavailable => self.is_failing = true,
            StoreInput::Opened(_) | StoreInput::Recovered { .. } => self.is_failing = false,
            StoreInput::Removed(_) | StoreInput::Answer(..) => {}
        }
    }

    /// Updates whether senders and the agent must wait.
    fn update(&mut self) {
        self.is_behind = self.store.as_ref().is_some_and(Store::is_behind);
    }

    /// Writes everything until `deadline`, and closes the store.
    pub fn close(&mut self, deadline: Instant) {
        if let Some(store) = self.store.take()
            && !store.close(deadline)
        {
            warn!("the end has come before everything was written to disk");
        }
    }
}

impl Server {
    /// Starts the store when the port is taken: whoever has the port has the store of its name.
    pub fn start_store(&mut self) {
        if let Some(options) = self.storage.options.take()
            && !self.storage.start(options)
        {
            self.handle_input(Input::Store(StoreInput::Unavailable));
        }
    }

    /// Handles what the store reports; `None` if its thread has ended, which only a panic can do.
    pub fn store_input(&mut self, input: Option<StoreInput>) {
        let input = input.unwrap_or_else(|| {
            let why = "the store has ended by a fault of its own, so what is said is kept in memory only; restart Claude Code";
            self.storage.give_up(why.to_owned());
            StoreInput::Unavailable
        });
        self.storage.note(&input);
        self.answer_removals();
        let is_opened = matches!(input, StoreInput::Opened(_));
        self.handle_input(Input::Store(input));
        if is_opened {
            // Messages wait there since an earlier run, maybe of somebody whose token was removed meanwhile.
            self.revoke();
        }
        self.storage.update();
        self.resume_clients();
    }

    /// Gives the store what has changed, and then asks it what the hub needs to know.
    pub fn flush_store(&mut self) {
        if let Some(store) = &self.storage.store {
            let changes = self.hub.poll_store();
            if !changes.is_empty() {
                self.storage.given += changes.len() as u64;
                store.write(changes);
            }
            while let Some((id, query)) = self.hub.poll_query() {
                store.ask(id, query);
            }
            self.storage.update();
        }
        self.resume_clients();
    }

    /// Goes on with the clients that don't wait for the store any longer.
    fn resume_clients(&mut self) {
        while let Some(conn) = self.hub.poll_resumed() {
            self.turns.resume(conn);
            if let Some(handled) = self.unanswered.remove(&conn) {
                self.answered(conn, &handled);
            }
        }
    }
}
