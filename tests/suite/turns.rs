//! The order in which messages of many clients reach Claude Code, when more wait than it may be given at once.
//!
//! Claude Code isn't initialized before all messages wait, so the order doesn't depend on the clock. Each
//! client leaves after its messages: when the server has noticed, it has read all of them.

use serde_json::json;

use crate::app::App;
use crate::server::Server;

/// Messages that may wait for Claude Code (docs/limits.md).
const INBOX: usize = 1024;
/// Messages that all clients may bring before each has had another turn, at most.
const ROUND: usize = 2 * 1024;

/// Sends so many messages of nothing but their session, and leaves.
fn flood(server: &Server, session: &str, messages: usize) {
    let mut client = App::connect(server, session);
    for _ in 0..messages {
        client.send(&json!({ "type": "message", "content": "x", "user": session }));
    }
}

/// Initializes Claude Code when nobody but `members` is connected, and returns who said each of the messages that it
/// gets, up to one of `last`.
fn authors_until(server: &mut Server, last: &str, members: &[App]) -> Vec<String> {
    server.wait_for_health(|health| health["clients"] == members.len());
    server.initialize();
    let mut authors = Vec::new();
    while authors.last().is_none_or(|author| author != last) {
        let user = server.next_message()["meta"]["user"].take();
        authors.push(user.as_str().expect("a message has a user").to_owned());
    }
    authors
}

#[test]
fn message_waits_for_few_of_each_of_many_who_wait() {
    let mut server = Server::listening(&[]);
    for n in 0..100 {
        flood(&server, &format!("s{n}"), 200);
    }
    flood(&server, "last", 1);
    let authors = authors_until(&mut server, "last", &[]);
    // What is in the inbox, and what all others may bring in one round.
    assert!(authors.len() <= INBOX + ROUND, "{}", authors.len());
}

/// What a message costs the server grows with the members who get it.
#[test]
fn message_waits_for_few_in_a_large_session() {
    let mut server = Server::listening(&[]);
    let members: Vec<App> = (0..100).map(|_| App::connect(&server, "large")).collect();
    flood(&server, "first", INBOX);
    server.wait_for_health(|health| health["clients"] == members.len());
    for _ in 0..4 {
        flood(&server, "large", 200);
    }
    flood(&server, "last", 1);
    let authors = authors_until(&mut server, "last", &members);
    let large = authors.iter().filter(|author| *author == "large").count();
    // 2,048 frames for members and senders in a turn.
    assert!(large <= 4 * 2_048_usize.div_ceil(members.len()), "{large}");
}
