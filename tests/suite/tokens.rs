//! The tokens: the command that makes them, the file that holds them, and what a running server
//! does when it changes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use claude_socket::access::file::StoredToken;
use claude_socket::access::token::Digest;
use claude_socket::protocol::Role;
use serde_json::{Value, json};

use crate::access::{STRONG, connect, shake, start, text, with_tokens};
use crate::app::App;
use crate::server::{Server, address_in, binary, status_of};
use crate::state::State;

#[test]
fn removed_token_disconnects_only_its_clients() {
    let state = State::new();
    let [ann, dev] = [
        state.add("ann", "operator", None),
        state.add("dev", "sender", None),
    ];
    let server = with_tokens(&state);
    let mut apps = [connect(&server, "s1", &ann), connect(&server, "s1", &dev)];
    state.remove("dev");
    assert_eq!(apps[1].close_code(), 4401);
    assert_eq!(apps[0].until_pong(), [] as [Value; 0]);
    assert_eq!(
        status_of(&shake(
            &server,
            "/",
            &format!("Authorization: Bearer {dev}\r\n")
        )),
        401
    );

    // The same name with another token, or another role, is another token.
    server.wait_for_log("the tokens were read: 1");
    let again = state.add("dev", "sender", None);
    server.wait_for_log("the tokens were read: 2");
    let mut other = connect(&server, "s1", &again);
    let edited = fs::read_to_string(state.file())
        .expect("the file exists")
        .replace("sender", "viewer");
    fs::write(state.file(), edited).expect("the test owns the file");
    assert_eq!(other.close_code(), 4401);
    let mut other = connect(&server, "s1", &again);
    other.send_message("hello");
    assert_eq!(other.expect("error")["code"], "forbidden");
    assert_eq!(apps[0].until_pong(), [] as [Value; 0]);
}

/// A message that has not reached Claude Code when its token is removed never does, whether its
/// client is still connected or not.
#[test]
fn pending_messages_of_removed_token_are_dropped() {
    let state = State::new();
    let [ann, dev] = [
        state.add("ann", "operator", None),
        state.add("dev", "sender", None),
    ];
    // Claude Code takes no messages yet.
    let mut server = Server::listening(&["--state-dir", state.path()]);
    let mut staying = connect(&server, "s1", &dev);
    staying.send_message("from one who stays");
    staying.until_pong();
    let mut leaving = connect(&server, "s1", &dev);
    leaving.send_message("from one who goes");
    leaving.until_pong();
    drop(leaving);
    server.token = Some(ann.clone());
    server.wait_for_health(|health| health["clients"] == 1);
    state.remove("dev");
    assert_eq!(staying.close_code(), 4401);
    server.initialize();
    let mut app = connect(&server, "s1", &ann);
    app.send_message("from ann");
    assert_eq!(server.next_message()["content"], "from ann");
    // They were said, and the others have seen them.
    app.send(&json!({ "type": "fetch_history" }));
    let history = app.expect("history");
    assert_eq!(history["messages"][0]["content"], "from one who stays");
    assert_eq!(history["messages"][2]["content"], "from ann");
}

/// A flood of one sender costs Claude what the token's rate allows, and delays nobody.
#[test]
fn messages_over_rate_of_token_never_reach_claude_code() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let dev = state.add_with("dev", "sender", &["--rate", "20/d"]);
    let server = with_tokens(&state);
    let mut apps = [connect(&server, "s1", &dev), connect(&server, "s2", &dev)];
    for _ in 0..250 {
        for app in &mut apps {
            app.send_message("flood");
        }
    }
    let answers: Vec<Value> = apps.iter_mut().flat_map(App::until_pong).collect();
    let is_busy = |answer: &&Value| {
        let seconds = answer["retry_after"].as_u64().unwrap_or(0);
        answer["code"] == "busy" && (1..=4_320).contains(&seconds)
    };
    assert_eq!(answers.iter().filter(is_busy).count(), 480, "{answers:?}");
    connect(&server, "s1", &ann).send_message("from ann");
    for _ in 0..20 {
        assert_eq!(server.next_message()["content"], "flood");
    }
    assert_eq!(server.next_message()["content"], "from ann");
    server.wait_for_log("(sender \"dev\") sends more than 20/d");

    // Another connection brings no more, and another token of that name does.
    let mut again = connect(&server, "s1", &dev);
    again.send(&json!({ "type": "message", "content": "flood", "id": "m1" }));
    assert_eq!(again.expect("error")["code"], "busy");
    let receipt = again.expect("delivery");
    assert_eq!(
        (&receipt["state"], &receipt["code"]),
        (&json!("rejected"), &json!("busy"))
    );
    assert!(receipt["retry_after"].as_u64() > Some(0), "{receipt}");
    state.remove("dev");
    server.wait_for_log("the tokens were read: 1");
    let dev = state.add("dev", "sender", None);
    server.wait_for_log("the tokens were read: 2");
    connect(&server, "s1", &dev).send_message("hello");
    assert_eq!(server.next_message()["content"], "hello");
}

#[test]
fn message_counts_once_for_each_started_4_kib() {
    let state = State::new();
    let dev = state.add_with("dev", "sender", &["--rate", "5/d"]);
    let server = with_tokens(&state);
    let mut app = connect(&server, "s1", &dev);
    for (length, counts) in [(4_096, 1), (4_097, 2)] {
        app.send_message(&"x".repeat(length));
        let message = server.next_message();
        let content = message["content"].as_str().expect("a message has content");
        assert_eq!(content.len(), length, "counts as {counts}");
    }
    app.send_message(&"x".repeat(8_193));
    let error = app.expect("error");
    let message = error["message"].as_str().expect("an error says why");
    assert_eq!(error["code"], "busy");
    assert!(
        message.contains("8193 bytes counts as 3; send it again in"),
        "{message}"
    );
    // Rejected, it costs nothing: this is the rest.
    app.send_message(&"x".repeat(8_192));
    server.next_message();
    app.send_message(&"x".repeat(5 * 4_096 + 1));
    let error = app.expect("error");
    assert_eq!(
        (&error["code"], &error["retry_after"]),
        (&json!("too_large"), &Value::Null)
    );
    assert_eq!(
        error["message"],
        "the message has 20481 bytes, and this token's rate of 5/d never allows more than 20480 at once; send less at once"
    );
}

#[test]
fn expired_token_disconnects_its_clients_and_is_refused_by_name() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let mut server = with_tokens(&state);
    let mut stays = connect(&server, "s1", &ann);
    // A slow machine needs more time from here to the connection.
    let (dev, mut app) = [2, 8, 32]
        .into_iter()
        .find_map(|seconds| {
            let name = format!("dev{seconds}");
            let dev = state.add_with(&name, "sender", &["--expires", &format!("{seconds}s")]);
            server.wait_for_log("the tokens were read: ");
            let shaken = shake(&server, "/", &format!("Authorization: Bearer {dev}\r\n"));
            (status_of(&shaken) == 101).then(|| (dev.clone(), connect(&server, "s1", &dev)))
        })
        .expect("a connection takes less than 32 s");
    assert_eq!(app.close_code(), 4401);
    assert_eq!(stays.until_pong(), [] as [Value; 0]);
    server.wait_for_log("the token of the sender \"dev");
    let refused = |token: &str| shake(&server, "/", &format!("Authorization: Bearer {token}\r\n"));
    let answer = refused(&dev);
    assert_eq!(status_of(&answer), 401);
    assert!(answer.contains("this token expired at 20"), "{answer}");
    // Who doesn't know it hears nothing of it.
    let answer = refused(&dev.replace("cs_", "cs-"));
    assert!(
        status_of(&answer) == 401 && !answer.contains("expired"),
        "{answer}"
    );
    let list = text(&state.run(&["list"]).stdout);
    assert!(list.contains("Z (expired)  20"), "{list}");

    // When all have expired, a token is needed all the same.
    let file = fs::read_to_string(state.file()).expect("the token file exists");
    let mut file: Value = serde_json::from_str(&file).expect("the file is JSON");
    file["tokens"][0]["expires"] = "2020-01-01T00:00:00Z".into();
    fs::write(state.file(), file.to_string()).expect("the test owns the file");
    assert_eq!(stays.close_code(), 4401);
    drop((stays, app));
    assert_eq!(status_of(&shake(&server, "/", "")), 401);
    server.token = None;
    let told = server.call("fetch_messages", &json!({ "session_id": "s1" }));
    assert!(told.contains("every token has expired"), "{told}");
}

#[test]
fn adding_first_token_disconnects_anonymous_clients() {
    let state = State::new();
    let server = with_tokens(&state);
    let mut before = App::connect(&server, "s1");
    let ann = state.add("ann", "operator", None);
    assert_eq!(before.close_code(), 4401);
    assert_eq!(status_of(&shake(&server, "/", "")), 401);
    let mut app = connect(&server, "s1", &ann);
    state.remove("ann");
    assert_eq!(app.close_code(), 4401);
    App::connect(&server, "s1");
}

/// Each way in which the file can be wrong: it admits nobody, and the log and the command say why.
#[test]
fn unusable_token_file_admits_nobody() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let good = fs::read_to_string(state.file()).expect("the token file exists");
    let bearer = format!("Authorization: Bearer {ann}\r\n");
    let strong = format!("Authorization: Bearer {STRONG}\r\n");
    let digest = good
        .split('"')
        .find(|part| part.len() == 64)
        .expect("the file has a digest");
    let token =
        |fields: &str| format!(r#"{{"version":1,"tokens":[{{"sha256":"{digest}",{fields}}}]}}"#);
    let edited = [
        (good.replace('}', ""), "cannot be understood"),
        (String::new(), "cannot be understood"),
        ("[]".into(), "cannot be understood"),
        (
            good.replace("\"version\": 1", "\"version\": 2"),
            "of version 2",
        ),
        (good.replace("operator", "admin"), "`admin`"),
        (
            token(r#""name":"ann","role":"operator","until":"soon""#),
            "`until`",
        ),
        (
            token(r#""name":"ann","role":"operator","expires":"soon""#),
            "\"expires\" must be a time",
        ),
        (
            token(r#""name":"ann","role":"operator","rate":"30""#),
            "\"rate\" cannot be \"30\"",
        ),
        (
            token(r#""name":"ann","role":"operator","sessions":"a*""#),
            "cannot be bound",
        ),
        (
            token(r#""name":"ann","role":"sender","sessions":"""#),
            "must not be empty",
        ),
        (
            token(r#""name":"operator","role":"sender""#),
            "choose another name",
        ),
        (
            token(r#""name":"a\nb","role":"sender""#),
            "control characters",
        ),
        (
            token(r#""name":"ann","role":"sender","role":"operator""#),
            "duplicate",
        ),
        (good.replace(&digest[1..], ""), "64 hexadecimal digits"),
        (
            format!(
                r#"{{"version":1,"tokens":[{0},{0}]}}"#,
                format_args!(r#"{{"sha256":"{digest}","name":"ann","role":"viewer"}}"#)
            ),
            "two of the name",
        ),
        (
            good.replace(
                "\"tokens\": [",
                &format!(r#""tokens": [{{"sha256":"{digest}","name":"eve","role":"viewer"}},"#),
            ),
            "the token of somebody else",
        ),
    ];
    type Break<'a> = Box<dyn Fn() + 'a>;
    let mode = |path: &str, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("the test owns the file")
    };
    let file = state.file();
    let file_name = file.to_str().expect("the path is text");
    let elsewhere = file.with_extension("elsewhere");
    let mut cases: Vec<(Break<'_>, &str)> = vec![
        (Box::new(|| mode(file_name, 0o644)), "chmod 600"),
        (Box::new(|| mode(file_name, 0o620)), "chmod 600"),
        (Box::new(|| mode(state.path(), 0o777)), "chmod 700"),
        (
            Box::new(|| {
                fs::rename(&file, &elsewhere).expect("the file exists");
                symlink(&elsewhere, &file).expect("the test owns the folder");
            }),
            "symbolic link",
        ),
        (
            Box::new(|| {
                fs::remove_file(&file).expect("the file exists");
                fs::create_dir(&file).expect("the test owns the folder");
            }),
            "no plain file",
        ),
        (
            Box::new(|| {
                fs::remove_file(&file).expect("the file exists");
                let made = Command::new("mkfifo")
                    .args(["-m", "600"])
                    .arg(&file)
                    .status();
                assert!(made.expect("the command runs").success());
            }),
            "no plain file",
        ),
        (
            Box::new(|| fs::write(&file, b"\xff").expect("the test owns the file")),
            "not text",
        ),
    ];
    for (contents, part) in &edited {
        let file = &file;
        cases.push((
            Box::new(move || fs::write(file, contents).expect("the test owns the file")),
            part,
        ));
    }
    for (break_it, part) in cases {
        break_it();
        let mut server = Server::spawn(binary().args(["--port", "0", "--state-dir", state.path()]));
        assert!(
            server
                .wait_for_log("only CLAUDE_SOCKET_TOKEN lets anyone in")
                .contains(part),
            "{part}"
        );
        server.address = address_in(&server.wait_for_log("listening on "));
        let answer = shake(&server, "/", &bearer);
        assert_eq!(status_of(&answer), 503, "{part}: {answer}");
        assert_eq!(status_of(&shake(&server, "/", "")), 503, "{part}");
        for arguments in [
            &["list"][..],
            &["add", "bob", "--role", "viewer"],
            &["remove", "ann"],
        ] {
            let output = state.run(arguments);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{part}: {stderr}");
            assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
            assert!(
                stderr.contains(part) && stderr.contains(file_name),
                "{part}: {stderr}"
            );
            assert!(output.stdout.is_empty());
        }
        drop(server);
        // What doesn't come from the file still counts.
        let server = start(
            binary()
                .args(["--state-dir", state.path()])
                .env("CLAUDE_SOCKET_TOKEN", STRONG),
        );
        assert_eq!(status_of(&shake(&server, "/", &strong)), 101, "{part}");
        assert_eq!(status_of(&shake(&server, "/", &bearer)), 503, "{part}");
        drop(server);
        mode(state.path(), 0o700);
        // It can be a file or a folder by now.
        let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file));
        fs::write(&file, &good).expect("the test owns the folder");
        mode(file_name, 0o600);
    }
}

/// The same while the server runs; once the file is repaired, everything is as before.
#[test]
fn broken_token_file_disconnects_everybody_until_repaired() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let good = fs::read_to_string(state.file()).expect("the token file exists");
    let mut server = with_tokens(&state);
    let mut app = connect(&server, "s1", &ann);
    fs::write(state.file(), "{").expect("the test owns the file");
    assert_eq!(app.close_code(), 1013, "they may come back");
    server.wait_for_log("cannot be understood");
    let told = server.call("fetch_messages", &json!({ "session_id": "s1" }));
    assert!(told.contains("no app can connect: the tokens in"), "{told}");
    assert_eq!(
        status_of(&shake(&server, &format!("/?token={ann}"), "")),
        503
    );
    // Some editors put a byte order mark before it.
    fs::write(state.file(), format!("\u{feff}{good}")).expect("the test owns the file");
    server.wait_for_log("the tokens were read: 1");
    connect(&server, "s1", &ann);
    // Removing the file must not admit anyone.
    let mode = |mode| {
        let mode = Permissions::from_mode(mode);
        fs::set_permissions(state.path(), mode).expect("the test owns the file");
    };
    mode(0o777);
    server.wait_for_log("other users may write to the folder");
    fs::remove_file(state.file()).expect("the file exists");
    mode(0o700);
    server.wait_for_log("are gone, for the file was removed; put it back");
    assert_eq!(status_of(&shake(&server, "/", "")), 503);
    let bob = state.add("bob", "operator", None);
    server.wait_for_log("the tokens were read: 1");
    let mut app = connect(&server, "s1", &bob);
    fs::remove_dir_all(state.path()).expect("the file exists");
    assert_eq!(app.close_code(), 1013);
    assert_eq!(status_of(&shake(&server, "/", "")), 503);
    state.add("eve", "operator", None);
    server.wait_for_log("the tokens were read: 1");
    // An empty list is meant: nobody needs a token any more.
    state.remove("eve");
    server.wait_for_log("the tokens were read: 0");
    App::connect(&server, "s1");
}

/// Other users could put a file there, or have removed it.
#[test]
fn world_writable_folder_without_token_file_admits_nobody() {
    let state = State::new();
    fs::create_dir_all(state.path()).expect("the test owns the parent folder");
    let mode = |mode| {
        let mode = Permissions::from_mode(mode);
        fs::set_permissions(state.path(), mode).expect("the test owns the file");
    };
    mode(0o777);
    let server = with_tokens(&state);
    assert_eq!(status_of(&shake(&server, "/", "")), 503);
    mode(0o700);
    server.wait_for_log("the tokens were read: 0");
    App::connect(&server, "s1");
}

#[test]
fn token_command_reports_errors_and_keeps_secrets() {
    let state = State::new();
    let list = |arguments: &[&str]| text(&state.run(arguments).stdout);
    assert_eq!(list(&["list"]), "");
    assert_eq!(list(&["list", "--json"]), "[]\n");
    assert!(!state.file().exists());

    let output = state.run(&["add", "ann", "--role", "operator"]);
    let token = text(&output.stdout);
    assert_eq!(token.lines().count(), 1, "the token alone: {token}");
    let said = text(&output.stderr);
    assert!(
        said.contains("only once") && said.contains("every connection needs a token"),
        "{said}"
    );
    let contents = fs::read_to_string(state.file()).expect("the token file exists");
    assert!(
        !contents.contains(token.trim()) && !said.contains(token.trim()),
        "{contents}"
    );
    let mode = |path| {
        fs::metadata(path)
            .expect("the file exists")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode(state.file()), 0o600);
    assert_eq!(mode(state.path().into()), 0o700);
    state.add("shed 7", "sender", Some("shed-*"));
    state.add_with("bob", "sender", &["--rate", "200/h", "--expires", "90d"]);
    state.add_with("eve", "viewer", &["--expires", "9999-01-01"]);
    state.add_with("sue", "operator", &["--rate", "none"]);

    let table = list(&["list"]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(
        rows[0].starts_with("NAME    ROLE      SESSIONS  RATE   EXPIRES  "),
        "{table}"
    );
    for (row, begins) in [
        (1, "ann     operator  all       none   never    "),
        (2, "shed 7  sender    shed-*    60/m   never    "),
        (3, "bob     sender    all       200/h  20"),
        (
            4,
            "eve     viewer    all       -      9999-01-01T00:00:00Z (in ",
        ),
        (5, "sue     operator  all       none   never    "),
    ] {
        assert!(rows[row].starts_with(begins), "{table}");
    }
    // It may have lost its first second.
    let left = ["89d", "90d"].map(|days| format!("Z (in {days})  "));
    assert!(left.iter().any(|left| rows[3].contains(left)), "{table}");
    let json: Value = serde_json::from_str(&list(&["list", "--json"])).expect("the list is JSON");
    assert_eq!(json[0]["sessions"], Value::Null);
    assert_eq!(
        (&json[1]["name"], &json[1]["role"], &json[1]["sessions"]),
        (&json!("shed 7"), &json!("sender"), &json!("shed-*"))
    );
    assert!(!json.to_string().contains("sha256"), "{json}");
    assert_eq!(
        (
            &json[1]["rate"],
            &json[1]["expires"],
            &json[1]["expires_in"]
        ),
        (&json!("60/m"), &Value::Null, &Value::Null)
    );
    let seconds = json[2]["expires_in"].as_u64().expect("it expires");
    assert!((1..=90 * 24 * 60 * 60 + 1).contains(&seconds), "{json}");
    assert_eq!(
        (&json[3]["rate"], &json[3]["expires"]),
        (&Value::Null, &json!("9999-01-01T00:00:00Z"))
    );
    let file = fs::read_to_string(state.file()).expect("the token file exists");
    let file: Value = serde_json::from_str(&file).expect("the file is JSON");
    let rates = [0, 1, 2, 3, 4].map(|token| &file["tokens"][token]["rate"]);
    let none = Value::Null;
    assert_eq!(
        rates,
        [&none, &none, &json!("200/h"), &none, &json!("none")]
    );

    let cases: [(&[&str], i32, &str); 15] = [
        (
            &["add", "ann", "--role", "viewer"],
            1,
            "there is already a token of the name \"ann\"",
        ),
        (
            &["add", "bob", "--role", "operator", "--session", "a"],
            1,
            "cannot be bound",
        ),
        (&["add", "", "--role", "viewer"], 1, "must not be empty"),
        (
            &["add", " bob", "--role", "viewer"],
            1,
            "begin or end with a space",
        ),
        (
            &["add", "a\nb", "--role", "viewer"],
            1,
            "control characters",
        ),
        (
            &["add", "operator", "--role", "viewer"],
            1,
            "CLAUDE_SOCKET_TOKEN",
        ),
        (
            &["add", "expired", "--role", "viewer"],
            1,
            "choose another name",
        ),
        (
            &["add", "bob", "--role", "admin"],
            2,
            "--role cannot be \"admin\": give operator, sender, viewer",
        ),
        (
            &["add", "bob", "--role", "viewer", "--session", ""],
            2,
            "--session",
        ),
        (
            &["remove", "dan"],
            1,
            "there is no token of the name \"dan\"",
        ),
        (
            &["add", "dan", "--role", "viewer", "--rate", "1/m"],
            1,
            "a viewer sends nothing",
        ),
        (
            &["add", "dan", "--role", "sender", "--rate", "0/m"],
            2,
            "--rate cannot be \"0/m\": give a number of messages and a time, such as 10/s",
        ),
        (
            &["add", "dan", "--role", "sender", "--expires", "90"],
            2,
            "--expires cannot be \"90\": give how long from now, such as 12h or 90d",
        ),
        (
            &["add", "dan", "--role", "sender", "--expires", "2020-01-01"],
            2,
            "2020-01-01T00:00:00Z is not in the future",
        ),
        (
            &["add", "dan", "--role", "sender", "--expires", "99999years"],
            2,
            "--expires cannot be",
        ),
    ];
    for (arguments, code, part) in cases {
        let output = state.run(arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    for name in ["ann", "bob", "eve", "sue"] {
        state.remove(name);
    }
    let output = state.run(&["remove", "shed 7"]);
    assert!(
        text(&output.stderr).contains("the last one"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(list(&["list", "--json"]), "[]\n");
}

#[test]
fn token_file_location_follows_environment() {
    let state = State::new();
    let run = |name: &str, value: &str| {
        let mut command = binary();
        command
            .args(["token", "add", "ann", "--role", "operator"])
            .env(name, value);
        let output = command.output().expect("the command runs");
        (output.status.success(), text(&output.stderr))
    };
    let home = state.path();
    assert!(run("HOME", home).0);
    assert!(
        fs::exists(format!("{home}/.claude/channels/claude-socket/access.json"))
            .expect("the folder is readable")
    );
    assert!(run("CLAUDE_CONFIG_DIR", &format!("{home}/other")).0);
    assert!(
        fs::exists(format!("{home}/other/channels/claude-socket/access.json"))
            .expect("the folder is readable")
    );
    assert!(run("CLAUDE_SOCKET_STATE_DIR", &format!("{home}/third")).0);
    assert!(fs::exists(format!("{home}/third/access.json")).expect("the folder is readable"));
    for relative in ["tokens", "~/tokens"] {
        let (success, stderr) = run("CLAUDE_SOCKET_STATE_DIR", relative);
        assert!(!success && stderr.contains("in full"), "{stderr}");
    }
}

#[test]
fn concurrent_adds_all_succeed() {
    let state = State::new();
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let add = |number: usize| state.add(&format!("t{number}"), "viewer", None);
        let adding: Vec<_> = (0..12)
            .map(|number| scope.spawn(move || add(number)))
            .collect();
        adding
            .into_iter()
            .map(|thread| thread.join().expect("adding does not panic"))
            .collect()
    });
    let left = fs::read_dir(state.path()).expect("the file exists").count();
    assert_eq!(left, 1, "nothing but the file is left");
    let server = with_tokens(&state);
    for token in &tokens {
        connect(&server, "s1", token);
    }
}

#[test]
fn ten_thousand_tokens_are_all_valid() {
    let state = State::new();
    state.add("first", "viewer", None);
    let tokens: Vec<StoredToken> = (0..10_000)
        .map(|number| StoredToken {
            name: format!("device {number}"),
            role: Role::Sender,
            sessions: None,
            rate: None,
            expires: None,
            sha256: Digest::of(&format!("token-{number}")),
            created: String::new(),
        })
        .collect();
    let contents = json!({ "version": 1, "tokens": tokens });
    fs::write(state.file(), contents.to_string()).expect("the test owns the file");
    let server = with_tokens(&state);
    for number in [0, 5_000, 9_999] {
        connect(&server, "s1", &format!("token-{number}"));
    }
}

/// Its reader waits for room in the inbox, and would not read the close.
#[test]
fn held_sender_with_removed_token_is_disconnected() {
    let state = State::new();
    let [ann, dev] = [
        state.add("ann", "operator", None),
        state.add("dev", "sender", None),
    ];
    // Claude Code accepts no messages yet.
    let server = Server::listening(&["--state-dir", state.path()]);
    let mut app = connect(&server, "s1", &ann);
    for _ in 0..4 {
        app.send_message(&"x".repeat(300_000));
    }
    app.until_pong();
    let mut held = connect(&server, "s2", &dev);
    held.send_message("this waits for room");
    state.remove("dev");
    assert_eq!(held.close_code(), 4401);
    let end = held.socket.read();
    assert!(
        matches!(end, Err(tungstenite::Error::ConnectionClosed)),
        "the server closes the connection: {end:?}"
    );
}
