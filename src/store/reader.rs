//! The thread that answers questions. It reads beside the writer, and sees what is on disk.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use log::error;
use rusqlite::Connection;

use super::files::Files;
use super::shared::Shared;
use super::{queries, schema};
use crate::hub::stored::{Query, QueryAnswer, QueryId};

/// Answers questions until no more can come.
pub fn run(shared: &Arc<Shared>, files: &Files, questions: &Receiver<(QueryId, Query)>) {
    let mut open: Option<(u64, Connection)> = None;
    for (id, query) in questions {
        if matches!(query, Query::Search { .. }) {
            shared.index();
        }
        let answer = answer(shared, files, &mut open, &query);
        shared.answer(id, answer);
    }
}

fn answer(
    shared: &Shared,
    files: &Files,
    open: &mut Option<(u64, Connection)>,
    query: &Query,
) -> QueryAnswer {
    let generation = shared.generation();
    if open.as_ref().is_some_and(|(of, _)| *of != generation) {
        *open = None;
    }
    if generation == 0 {
        return QueryAnswer::Failed;
    }
    if open.is_none() {
        match schema::open_to_read(&files.database()) {
            Ok(database) => *open = Some((generation, database)),
            Err(error) => {
                error!("{}", unreadable(files, &format!("{error:?}")));
                return QueryAnswer::Failed;
            }
        }
    }
    let Some((_, database)) = open else {
        return QueryAnswer::Failed;
    };
    read(database, query).unwrap_or_else(|error| {
        error!("{}", unreadable(files, &error.to_string()));
        if schema::is_damage(&error) {
            shared.report_damage(generation);
        }
        *open = None;
        QueryAnswer::Failed
    })
}

/// Answers from one state of the database, whatever is written meanwhile.
fn read(database: &Connection, query: &Query) -> rusqlite::Result<QueryAnswer> {
    let _transaction = database.unchecked_transaction()?;
    queries::answer(database, query)
}

fn unreadable(files: &Files, why: &str) -> String {
    format!(
        "the messages in {} cannot be read ({why}), so a client gets only those in memory; check the disk",
        files.database().display()
    )
}
