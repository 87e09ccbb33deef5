//! Who may connect: tokens, roles, the file they are in, and what is remembered of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use claude_socket::access::file::Stored;
use claude_socket::access::token::Digest;
use claude_socket::protocol::Role;
use serde_json::{Value, json};

use crate::app::App;
use crate::server::{Server, address_in, binary, status_of};
use crate::state::State;

const STRONG: &str = "a-token-of-32-characters-or-more";
const WEAK: &str = "sixteen-letters!";

/// Starts a server, on a free port, with this environment.
fn start(command: &mut Command) -> Server {
    let mut server = Server::spawn(command.args(["--port", "0"]));
    server.address = address_in(&server.logged("listening on "));
    server.shake_hands();
    server
}

fn with_tokens(state: &State) -> Server {
    Server::start(&["--state-dir", state.path()])
}

/// Connects with a token, up to the point where the hub knows of it.
fn connect(server: &Server, session: &str, token: &str) -> App {
    let mut app = App::open(
        server.address,
        &format!("/?session={session}&token={token}"),
    );
    app.pong();
    app
}

/// What a handshake with these further headers gets.
fn shake(server: &Server, path: &str, headers: &str) -> String {
    let head = server.handshake(path);
    let head = head.trim_end();
    // A server that lets it in would wait for frames; an empty close ends that.
    let mut bytes = format!("{head}\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(b"\x88\x80\0\0\0\0");
    server.http(&bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each way to show a token, right or wrong, and what it gets.
#[test]
fn a_token_can_be_shown_in_three_ways() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let dev = state.add("dev", "sender", Some("shed-*"));
    let one = state.add("one", "viewer", Some("shed-1"));
    let server = with_tokens(&state);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let protocols = |list: &str| format!("Sec-WebSocket-Protocol: {list}\r\n");
    let cases = [
        ("/", bearer(&ann), 101, ""),
        ("/", format!("authorization: bEaReR   {ann}\r\n"), 101, ""),
        (&format!("/?token={ann}"), String::new(), 101, ""),
        (
            &format!("/x?a=b&token={ann}&session=s"),
            String::new(),
            101,
            "",
        ),
        (
            "/",
            protocols(&format!("claude-socket, bearer.{ann}")),
            101,
            "sec-websocket-protocol: claude-socket\r\n",
        ),
        (
            "/",
            protocols(&format!("bearer.{ann},claude-socket")),
            101,
            "sec-websocket-protocol: claude-socket\r\n",
        ),
        (
            "/",
            protocols(&format!(
                "bearer.{ann}\r\nSec-WebSocket-Protocol: claude-socket"
            )),
            101,
            "sec-websocket-protocol: claude-socket\r\n",
        ),
        (
            "/",
            protocols(&format!("bearer.{ann}")),
            400,
            "offer claude-socket next to it",
        ),
        // Nothing of the other rules matters then.
        (
            "/",
            bearer(&ann) + "Origin: https://evil.example\r\nX-Forwarded-For: 10.0.0.7\r\n",
            101,
            "",
        ),
        // The same one twice is one; another scheme is for somebody else.
        (&format!("/?token={ann}"), bearer(&ann), 101, ""),
        (
            &format!("/?token={ann}"),
            "Authorization: Basic YTpi\r\n".into(),
            101,
            "",
        ),
        (
            &format!("/?token={ann}"),
            bearer(&dev),
            400,
            "several tokens",
        ),
        ("/", bearer("x") + &bearer(&ann), 400, "several tokens"),
        (
            &format!("/?token=x&token={ann}"),
            String::new(),
            400,
            "several tokens",
        ),
        // None, in many ways.
        ("/", String::new(), 401, "a token is needed here"),
        (
            "/?token=",
            "Authorization: Bearer \r\n".into(),
            401,
            "a token is needed here",
        ),
        (
            "/",
            format!("Authorization: {ann}\r\n"),
            401,
            "a token is needed here",
        ),
        (
            &format!("/?TOKEN={ann}"),
            String::new(),
            401,
            "a token is needed here",
        ),
        // Wrong ones.
        ("/", bearer(&ann[1..]), 401, "not known"),
        ("/", bearer(&format!("{ann}0")), 401, "not known"),
        ("/", bearer(&ann.to_uppercase()), 401, "not known"),
        ("/?token=%00%ff", String::new(), 401, "not known"),
        // Sessions.
        ("/?session=shed-7", bearer(&dev), 101, ""),
        (
            "/?session=house",
            bearer(&dev),
            403,
            "for sessions \\\"shed-*\\\" and not for \\\"house\\\"",
        ),
        ("/", bearer(&dev), 403, "not for \\\"default\\\""),
        ("/", bearer(&one), 101, ""),
        (
            "/?session=shed-2",
            bearer(&one),
            403,
            "not for \\\"shed-2\\\"",
        ),
    ];
    for (path, headers, status, part) in cases {
        let answer = shake(&server, path, &headers);
        let place = format!("{path} {headers}");
        assert_eq!(status_of(&answer), status, "{place}: {answer}");
        assert!(answer.contains(part), "{place}: {answer}");
        for token in [&ann, &dev, &one] {
            assert!(!answer.contains(token.as_str()), "{place}: {answer}");
        }
        assert_eq!(
            status == 401,
            answer.contains("WWW-Authenticate: Bearer"),
            "{answer}"
        );
        if status != 101 {
            let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
            let body: Value = serde_json::from_str(body).expect("it is JSON");
            assert!(body["error"].is_string(), "{body}");
        }
    }
}

/// The figures are for those who have a token, whatever it allows.
#[test]
fn figures_need_a_token_too() {
    let state = State::new();
    let eve = state.add("eve", "viewer", None);
    let mut server = with_tokens(&state);
    for path in ["/", "/healthz", "/metrics", "/any"] {
        let (status, body) = server.get(path);
        assert_eq!(status, 401, "{path}: {body}");
        assert!(!body.contains("sessions"), "{body}");
    }
    server.token = Some(eve);
    for path in ["/healthz", "/metrics"] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }
}

#[test]
fn ten_wrong_tokens_a_minute_are_enough() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let wrong = "Authorization: Bearer wrong\r\n";
    let server = start(
        binary()
            .args(["--state-dir", state.path()])
            .env("CLAUDE_SOCKET_TOKEN", WEAK),
    );
    for _ in 0..10 {
        assert_eq!(status_of(&shake(&server, "/", wrong)), 401);
    }
    let answer = shake(&server, "/", wrong);
    assert_eq!(status_of(&answer), 429, "{answer}");
    assert!(
        answer.contains("Retry-After: ") && answer.contains("wait a minute"),
        "{answer}"
    );
    // What could be guessed is not compared any more; what can't be still gets in.
    let weak = format!("Authorization: Bearer {WEAK}\r\n");
    assert_eq!(status_of(&shake(&server, "/", &weak)), 429);
    connect(&server, "s1", &ann);
    // Without a token nothing was guessed.
    assert_eq!(status_of(&shake(&server, "/", "")), 401);
}

#[test]
fn the_token_of_the_environment_is_an_operators() {
    let mut server = start(binary().env("CLAUDE_SOCKET_TOKEN", WEAK));
    let mut app = connect(&server, "s1", WEAK);
    app.send(&json!({ "type": "hello" }));
    let welcome = app.expect("welcome");
    assert_eq!(
        (&welcome["role"], &welcome["user"]),
        (&json!("operator"), &json!("operator"))
    );
    app.send(&json!({ "type": "message", "content": "hi", "user": "somebody" }));
    assert_eq!(server.heard()["meta"]["user"], "operator");
    let request = json!({ "request_id": "abcde", "tool_name": "Bash" });
    server.notify("notifications/claude/channel/permission_request", &request);
    app.expect("permission_request");
    assert_eq!(status_of(&shake(&server, "/", "")), 401);

    // One that was encoded for an address by nobody.
    let server = start(binary().env("CLAUDE_SOCKET_TOKEN", "a/b+c/d+e/f+g/h+i/j+k="));
    connect(&server, "s1", "a/b+c/d+e/f+g/h+i/j+k=");
}

#[test]
fn a_token_that_is_easy_to_guess_is_refused_and_not_repeated() {
    for token in [
        "hunter2",
        "fifteen-letters",
        "with spaces in between",
        "\u{fc}n\u{ef}c\u{f6}de-for-everyone",
    ] {
        let output = binary()
            .env("CLAUDE_SOCKET_TOKEN", token)
            .output()
            .expect("it runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains("CLAUDE_SOCKET_TOKEN") && stderr.contains("at least 16"),
            "{stderr}"
        );
        assert!(!stderr.contains(token), "{stderr}");
    }
    // Not on the command line, where everyone could see it.
    let output = binary()
        .args(["--token", STRONG])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
}

/// What proxies add to a request, which shows that it comes from elsewhere.
#[test]
fn without_a_token_nothing_comes_through_a_proxy() {
    let server = Server::start(&[]);
    for header in [
        "X-Forwarded-For: 10.0.0.7",
        "Forwarded: for=10.0.0.7",
        "Via: 1.1 proxy",
        "X-Real-IP: 10.0.0.7",
        "X-Forwarded-Host: a",
        "X-Forwarded-Proto: https",
    ] {
        let answer = shake(&server, "/", &format!("{header}\r\n"));
        assert_eq!(status_of(&answer), 403, "{header}: {answer}");
        assert!(answer.contains("through a proxy"), "{answer}");
    }
}

#[test]
fn a_removed_token_cuts_its_clients_off_and_nobody_else() {
    let state = State::new();
    let [ann, dev] = [
        state.add("ann", "operator", None),
        state.add("dev", "sender", None),
    ];
    let mut server = with_tokens(&state);
    let mut apps = [connect(&server, "s1", &ann), connect(&server, "s1", &dev)];
    state.remove("dev");
    assert_eq!(apps[1].close_code(), 4401);
    assert_eq!(apps[0].pong(), [] as [Value; 0]);
    assert_eq!(
        status_of(&shake(
            &server,
            "/",
            &format!("Authorization: Bearer {dev}\r\n")
        )),
        401
    );

    // The same name with another token, or another role, is another token.
    let again = state.add("dev", "sender", None);
    server.token = Some(ann);
    while status_of(&shake(
        &server,
        "/",
        &format!("Authorization: Bearer {again}\r\n"),
    )) != 101
    {}
    let mut other = connect(&server, "s1", &again);
    let edited = fs::read_to_string(state.file())
        .expect("it is there")
        .replace("sender", "viewer");
    fs::write(state.file(), edited).expect("it can be written");
    assert_eq!(other.close_code(), 4401);
    let mut other = connect(&server, "s1", &again);
    other.say("hello");
    assert_eq!(other.expect("error")["code"], "forbidden");
    assert_eq!(apps[0].pong(), [] as [Value; 0]);
}

/// What was said with a removed token and has not reached Claude Code never will,
/// whether who said it is still there or not.
#[test]
fn words_of_a_removed_token_are_not_passed_on() {
    let state = State::new();
    let [ann, dev] = [
        state.add("ann", "operator", None),
        state.add("dev", "sender", None),
    ];
    // Claude Code takes no messages yet.
    let mut server = Server::listening(&["--state-dir", state.path()]);
    let mut staying = connect(&server, "s1", &dev);
    staying.say("from one who stays");
    staying.pong();
    let mut leaving = connect(&server, "s1", &dev);
    leaving.say("from one who goes");
    leaving.pong();
    drop(leaving);
    server.token = Some(ann.clone());
    server.health_until(|health| health["clients"] == 1);
    state.remove("dev");
    assert_eq!(staying.close_code(), 4401);
    server.shake_hands();
    let mut app = connect(&server, "s1", &ann);
    app.say("from ann");
    assert_eq!(server.heard()["content"], "from ann");
    app.send(&json!({ "type": "fetch_history" }));
    assert_eq!(app.expect("history")["messages"][1], Value::Null);
}

#[test]
fn the_first_token_cuts_off_who_has_none_and_the_last_lets_them_in_again() {
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

#[test]
fn other_machines_get_in_only_while_there_is_a_token() {
    let state = State::new();
    let mut server = Server::spawn(binary().args([
        "--port",
        "0",
        "--host",
        "0.0.0.0",
        "--state-dir",
        state.path(),
    ]));
    server.shake_hands();
    server.logged("nothing listens: at 0.0.0.0");
    let fetch = json!({ "session_id": "s1" });
    assert!(
        server
            .call("fetch_messages", &fetch)
            .contains("claude-socket token add")
    );

    let ann = state.add("ann", "operator", None);
    let address = address_in(&server.logged("listening on "));
    server.address = ([127, 0, 0, 1], address.port()).into();
    let mut app = connect(&server, "s1", &ann);
    assert_eq!(server.call("fetch_messages", &fetch), "(no messages)");
    // Under any name.
    let head =
        format!("GET /healthz HTTP/1.1\r\nHost: box.lan\r\nAuthorization: Bearer {ann}\r\n\r\n");
    assert_eq!(status_of(&server.http(head.as_bytes())), 200);

    state.remove("ann");
    assert_eq!(app.close_code(), 4401);
    server.logged("nothing listens: at 0.0.0.0");
    assert!(server.call("fetch_messages", &fetch).contains("0.0.0.0"));
    assert!(
        std::net::TcpStream::connect(server.address).is_err(),
        "it still listens"
    );

    let ann = state.add("ann", "operator", None);
    assert_eq!(
        address_in(&server.logged("listening on ")).port(),
        server.address.port()
    );
    connect(&server, "s1", &ann);
}

/// Claude Code passes its prompts on only if there is someone to answer them.
#[test]
fn the_permission_capability_needs_an_operator() {
    let declares = |tokens: &[&str], token: &str| {
        let state = State::new();
        for (number, role) in tokens.iter().enumerate() {
            state.add(&format!("t{number}"), role, None);
        }
        let mut command = binary();
        command.args(["--port", "0", "--state-dir", state.path()]);
        command.env("CLAUDE_SOCKET_TOKEN", token);
        let mut server = Server::spawn(&mut command);
        let params = json!({ "protocolVersion": "2025-11-25", "clientInfo": {} });
        let result = server.request("initialize", &params);
        let channels = &result["capabilities"]["experimental"];
        assert!(channels["claude/channel"].is_object(), "{result}");
        channels["claude/channel/permission"].is_object()
    };
    assert!(declares(&[], ""));
    assert!(declares(&["sender", "operator"], ""));
    assert!(declares(&["viewer"], STRONG));
    assert!(declares(&[], STRONG));
    assert!(!declares(&["sender", "viewer"], ""));
}

/// Each way in which the file can be wrong: nobody gets in by it, and everyone is told.
#[test]
fn a_file_that_cannot_be_trusted_lets_nobody_in() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let good = fs::read_to_string(state.file()).expect("it is there");
    let bearer = format!("Authorization: Bearer {ann}\r\n");
    let strong = format!("Authorization: Bearer {STRONG}\r\n");
    let digest = good
        .split('"')
        .find(|part| part.len() == 64)
        .expect("a digest");
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
            token(r#""name":"ann","role":"operator","expires":"soon""#),
            "`expires`",
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
    ];
    type Break<'a> = Box<dyn Fn() + 'a>;
    let mode = |path: &str, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours")
    };
    let file = state.file();
    let file_name = file.to_str().expect("it is text");
    let elsewhere = file.with_extension("elsewhere");
    let mut cases: Vec<(Break<'_>, &str)> = vec![
        (Box::new(|| mode(file_name, 0o644)), "chmod 600"),
        (Box::new(|| mode(file_name, 0o620)), "chmod 600"),
        (Box::new(|| mode(state.path(), 0o777)), "chmod 700"),
        (
            Box::new(|| {
                fs::rename(&file, &elsewhere).expect("it is there");
                symlink(&elsewhere, &file).expect("there is room");
            }),
            "symbolic link",
        ),
        (
            Box::new(|| {
                fs::remove_file(&file).expect("it is there");
                fs::create_dir(&file).expect("there is room");
            }),
            "no plain file",
        ),
        (
            Box::new(|| {
                fs::remove_file(&file).expect("it is there");
                let made = Command::new("mkfifo")
                    .args(["-m", "600"])
                    .arg(&file)
                    .status();
                assert!(made.expect("it runs").success());
            }),
            "no plain file",
        ),
        (
            Box::new(|| fs::write(&file, b"\xff").expect("it is ours")),
            "not text",
        ),
    ];
    for (contents, part) in &edited {
        let file = &file;
        cases.push((
            Box::new(move || fs::write(file, contents).expect("it is ours")),
            part,
        ));
    }
    for (break_it, part) in cases {
        break_it();
        let mut server = Server::spawn(binary().args(["--port", "0", "--state-dir", state.path()]));
        assert!(
            server
                .logged("only CLAUDE_SOCKET_TOKEN lets anyone in")
                .contains(part),
            "{part}"
        );
        server.address = address_in(&server.logged("listening on "));
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
        // Whatever it is now.
        let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file));
        fs::write(&file, &good).expect("there is room");
        mode(file_name, 0o600);
    }
}

/// While it runs too; and when the file is repaired, everything is as before.
#[test]
fn a_file_that_breaks_cuts_everyone_off_until_it_is_repaired() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let good = fs::read_to_string(state.file()).expect("it is there");
    let server = with_tokens(&state);
    let mut app = connect(&server, "s1", &ann);
    fs::write(state.file(), "{").expect("it is ours");
    assert_eq!(app.close_code(), 1013, "they may come back");
    server.logged("cannot be understood");
    assert_eq!(
        status_of(&shake(&server, &format!("/?token={ann}"), "")),
        503
    );
    fs::write(state.file(), good).expect("it is ours");
    server.logged("the tokens were read: 1");
    connect(&server, "s1", &ann);
    fs::remove_dir_all(state.path()).expect("it is there");
    server.logged("the tokens were read: 0");
    App::connect(&server, "s1");
}

#[test]
fn the_command_says_what_is_needed_and_keeps_secrets() {
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
    let contents = fs::read_to_string(state.file()).expect("it is there");
    assert!(
        !contents.contains(token.trim()) && !said.contains(token.trim()),
        "{contents}"
    );
    let mode = |path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode(state.file()), 0o600);
    assert_eq!(mode(state.path().into()), 0o700);
    state.add("shed 7", "sender", Some("shed-*"));

    let table = list(&["list"]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(
        rows[0].starts_with("NAME    ROLE      SESSIONS  CREATED"),
        "{table}"
    );
    assert!(
        rows[1].starts_with("ann     operator  all       20"),
        "{table}"
    );
    assert!(
        rows[2].starts_with("shed 7  sender    shed-*    20"),
        "{table}"
    );
    let json: Value = serde_json::from_str(&list(&["list", "--json"])).expect("it is JSON");
    assert_eq!(json[0]["sessions"], Value::Null);
    assert_eq!(
        (&json[1]["name"], &json[1]["role"], &json[1]["sessions"]),
        (&json!("shed 7"), &json!("sender"), &json!("shed-*"))
    );
    assert!(!json.to_string().contains("sha256"), "{json}");

    let cases: [(&[&str], i32, &str); 10] = [
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
            "operator, sender, viewer",
        ),
        (
            &["add", "bob", "--role", "viewer", "--session", ""],
            2,
            "--session",
        ),
        (
            &["remove", "bob"],
            1,
            "there is no token of the name \"bob\"",
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
    state.remove("ann");
    let output = state.run(&["remove", "shed 7"]);
    assert!(
        text(&output.stderr).contains("the last one"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(list(&["list", "--json"]), "[]\n");
}

#[test]
fn the_folder_is_where_channels_keep_such_things() {
    let state = State::new();
    let run = |name: &str, value: &str| {
        let mut command = binary();
        command
            .args(["token", "add", "ann", "--role", "operator"])
            .env(name, value);
        let output = command.output().expect("it runs");
        (output.status.success(), text(&output.stderr))
    };
    let home = state.path();
    assert!(run("HOME", home).0);
    assert!(
        fs::exists(format!("{home}/.claude/channels/claude-socket/access.json")).expect("known")
    );
    assert!(run("CLAUDE_CONFIG_DIR", &format!("{home}/other")).0);
    assert!(fs::exists(format!("{home}/other/channels/claude-socket/access.json")).expect("known"));
    assert!(run("CLAUDE_SOCKET_STATE_DIR", &format!("{home}/third")).0);
    assert!(fs::exists(format!("{home}/third/access.json")).expect("known"));
    for relative in ["tokens", "~/tokens"] {
        let (success, stderr) = run("CLAUDE_SOCKET_STATE_DIR", relative);
        assert!(!success && stderr.contains("in full"), "{stderr}");
    }
}

#[test]
fn tokens_made_at_once_are_all_there() {
    let state = State::new();
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let add = |number: usize| state.add(&format!("t{number}"), "viewer", None);
        let adding: Vec<_> = (0..12)
            .map(|number| scope.spawn(move || add(number)))
            .collect();
        adding
            .into_iter()
            .map(|thread| thread.join().expect("it works"))
            .collect()
    });
    let server = with_tokens(&state);
    for token in &tokens {
        connect(&server, "s1", token);
    }
    let left = fs::read_dir(state.path()).expect("it is there").count();
    assert_eq!(left, 1, "nothing but the file is left");
}

#[test]
fn ten_thousand_tokens_all_count() {
    let state = State::new();
    state.add("first", "viewer", None);
    let tokens: Vec<Stored> = (0..10_000)
        .map(|number| Stored {
            name: format!("device {number}"),
            role: Role::Sender,
            sessions: None,
            sha256: Digest::of(&format!("token-{number}")),
            created: String::new(),
        })
        .collect();
    let contents = json!({ "version": 1, "tokens": tokens });
    fs::write(state.file(), contents.to_string()).expect("it is ours");
    let server = with_tokens(&state);
    for number in [0, 5_000, 9_999] {
        connect(&server, "s1", &format!("token-{number}"));
    }
}

/// Who, from where, as whom, and what they decided; never what was said, nor a token.
#[test]
fn the_log_and_the_audit_file_tell_who_did_what() {
    let state = State::new();
    let [ann, dev] = [
        state.add("ann", "operator", None),
        state.add("dev", "sender", Some("s*")),
    ];
    let audit = state.file().with_extension("audit");
    let mut server = Server::start(&[
        "--state-dir",
        state.path(),
        "--audit",
        audit.to_str().expect("text"),
        "--log-level",
        "trace",
    ]);
    let mut apps = [connect(&server, "s1", &ann), connect(&server, "s1", &dev)];
    apps[1].say("a secret");
    assert_eq!(server.heard()["content"], "a secret");
    let verdict = json!({ "type": "permission_response", "request_id": "abcde", "allowed": true });
    apps[1].send(&verdict);
    apps[1].expect("error");
    apps[1].send(&verdict);
    apps[1].expect("error");
    let request = json!({ "request_id": "abcde", "tool_name": "Ba\nsh", "description": "a secret", "input_preview": "a secret" });
    server.notify("notifications/claude/channel/permission_request", &request);
    apps[0].expect("user_message");
    apps[0].expect("permission_request");
    apps[0].send(&verdict);
    assert_eq!(
        server.notified("notifications/claude/channel/permission")["behavior"],
        "allow"
    );
    apps[0].expect("permission_resolved");
    let own = json!({ "request_id": "fghij", "tool_name": "mcp__claude-socket__reply" });
    server.notify("notifications/claude/channel/permission_request", &own);
    server.notified("notifications/claude/channel/permission");
    assert_eq!(
        status_of(&shake(&server, "/?token=wrong-token", "Referer: x\r\n")),
        401
    );
    assert_eq!(
        status_of(&shake(&server, &format!("/?session=house&token={dev}"), "")),
        403
    );
    drop(apps);
    server.token = Some(ann.clone());
    server.health_until(|health| health["clients"] == 0);
    drop(server.stdin.take());
    let log: Vec<String> = server.log.iter().collect();
    assert!(server.ended().0.success());
    let log = log.join("\n");
    let lines = fs::read_to_string(&audit).expect("it was written");
    for secret in [&ann, &dev, "a secret", "wrong-token"] {
        assert!(
            !log.contains(secret) && !lines.contains(secret),
            "{secret}: {log}\n{lines}"
        );
    }
    for part in [
        "is in session \"s1\" as operator \"ann\"",
        "as sender \"dev\" for sessions \"s*\"",
        "ann at client-1 allowed Ba\\nsh (abcde)",
        "claude-socket allowed mcp__claude-socket__reply (fghij)",
        "is refused: 401, this token is not known",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(
        fs::metadata(&audit)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let count = |wanted: Value| {
        let matches = |line: &&Value| {
            wanted
                .as_object()
                .expect("fields")
                .iter()
                .all(|(name, value)| line[name] == *value)
        };
        lines.iter().filter(matches).count()
    };
    let cases = [
        json!({ "event": "connected", "user": "ann", "role": "operator", "session": "s1", "client": "client-1" }),
        json!({ "event": "connected", "user": "dev", "role": "sender", "session": "s1" }),
        json!({ "event": "disconnected", "client": "client-1" }),
        json!({ "event": "forbidden", "user": "dev" }),
        json!({ "event": "verdict", "user": "ann", "tool": "Ba\nsh", "request_id": "abcde", "allowed": true, "client": "client-1" }),
        json!({ "event": "verdict", "user": "claude-socket", "request_id": "fghij", "client": null }),
        json!({ "event": "refused", "status": 401 }),
        json!({ "event": "refused", "status": 403 }),
    ];
    for case in cases {
        assert_eq!(count(case.clone()), 1, "{case}: {lines:#?}");
    }
    for line in &lines {
        assert!(
            line["ts"].as_str().is_some_and(|ts| ts.ends_with('Z')),
            "{line}"
        );
        assert_eq!(
            line["from"].is_string(),
            line["event"] == "connected" || line["event"] == "refused",
            "{line}"
        );
    }
}

/// A full disk costs lines of the audit file, and one line of the log.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_stops_nothing() {
    let mut server = Server::start(&["--audit", "/dev/full"]);
    for _ in 0..3 {
        let mut app = App::connect(&server, "s1");
        app.say("hello");
        assert_eq!(server.heard()["content"], "hello");
    }
    drop(server.stdin.take());
    let log: Vec<String> = server.log.iter().collect();
    assert!(server.ended().0.success());
    let told = log.iter().filter(|line| line.contains("/dev/full")).count();
    assert_eq!(told, 1, "{log:#?}");

    let output = binary()
        .args(["--audit", "/nowhere/at/all"])
        .output()
        .expect("it runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr.contains("CLAUDE_SOCKET_AUDIT") && stderr.contains("/nowhere/at/all"),
        "{stderr}"
    );
}
