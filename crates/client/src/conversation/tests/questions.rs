//! Questions, and the answers to each.

use super::*;

/// An answer that must be there by now.
fn now<T: Clone>(asked: &Pending<T>) -> Result<T, Error> {
    asked.answer(Duration::ZERO)
}

/// Questions are asked when there is a connection, and again after it was lost, and each gets
/// its own answer.
#[test]
fn a_question_is_asked_until_it_is_answered() {
    let mut talk = Talk::new();
    let (first, second) = (Pending::new(), Pending::new());
    let sessions = Pending::new();
    talk.client.fetch_history(2, None, first.clone());
    talk.client.fetch_sessions(sessions.clone());
    assert!(talk.frames().is_empty());
    talk.opens("t0", 3);
    let asked: Vec<Value> = talk.frames();
    let types = asked.iter().map(|frame| frame["type"].as_str());
    let types: Vec<&str> = types.flatten().collect();
    assert_eq!(types, ["fetch_history", "list_sessions"]);
    talk.breaks();
    talk.opens("t0", 4);
    talk.client.fetch_history(5, Some(1), second.clone());
    let limits: Vec<Value> = talk
        .frames()
        .iter_mut()
        .filter(|frame| frame["type"] == "fetch_history")
        .map(|frame| frame["limit"].take())
        .collect();
    // What was asked for, what the gap needs, and what is asked for since.
    assert_eq!(limits, [json!(100), json!(2), json!(5)]);

    talk.hears(history(&[item("assistant", 4, "missed", "t")]));
    assert_eq!(now(&first), Err(Error::TimedOut));
    talk.hears(history(&[item("assistant", 3, "a", "t")]));
    talk.hears(history(&[]));
    assert_eq!(now(&first).expect("it has come")[0].content, "a");
    assert_eq!(now(&second), Ok(Vec::new()));
    talk.hears(json!({ "type": "sessions", "sessions": [], "total": 7, "permissions": 1 }));
    let sessions = now(&sessions).expect("it has come");
    assert_eq!((sessions.total, sessions.permissions), (7, 1));

    let late = Pending::new();
    talk.client.fetch_sessions(late.clone());
    talk.client.end();
    assert!(matches!(now(&late), Err(Error::Ended(_))));
    let later = Pending::new();
    talk.client.fetch_history(1, None, later.clone());
    assert!(matches!(now(&later), Err(Error::Ended(_))));
}
