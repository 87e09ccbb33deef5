//! `claude-socket doctor`: each reason why nothing arrives, told apart.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::server::{Server, binary};

/// A folder with a `claude` that answers what a test wants.
struct Claude(PathBuf);

impl Claude {
    fn new(name: &str, version: &str, plugins: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n--version) echo '{version}' ;;\n'plugin list --json') echo '{plugins}' ;;\n*) exit 1 ;;\nesac\n"
        );
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("claude"), script).expect("a script");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.join("claude"), mode).expect("a program");
        Self(folder)
    }
}

/// The report, and whether all is well.
fn examine(claude: Option<&Claude>, port: u16) -> (Value, bool) {
    let path = claude.map_or_else(|| PathBuf::from("/nonexistent"), |claude| claude.0.clone());
    let port = port.to_string();
    let run = |arguments: &[&str]| {
        let arguments = ["doctor", "--port", &port]
            .into_iter()
            .chain(arguments.iter().copied());
        let path = format!("{}:/usr/bin:/bin", path.display());
        let output = binary().args(arguments).env("PATH", path).output();
        output.expect("it runs")
    };
    let json = run(&["--json"]);
    let report: Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    let screen = run(&[]);
    assert_eq!(screen.status, json.status);
    assert_eq!(report["ok"], json.status.success());
    let screen = String::from_utf8_lossy(&screen.stdout).into_owned();
    // What programs are told is told to people too. Ages differ between the two.
    for line in report["next"].as_array().expect("a list") {
        assert!(
            screen.contains(line.as_str().unwrap_or_default()),
            "{screen}"
        );
    }
    (report, json.status.success())
}

/// What the report says of a piece: its state and its sentence.
fn piece<'r>(report: &'r Value, what: &str) -> (&'r str, &'r str) {
    let findings = report["findings"].as_array().expect("a list");
    let finding = findings.iter().find(|finding| finding["what"] == what);
    let finding = finding.unwrap_or_else(|| panic!("nothing of {what} in {report}"));
    let text = |name: &str| finding[name].as_str().unwrap_or_default();
    (text("state"), text("says"))
}

fn next(report: &Value) -> Vec<&str> {
    let lines = report["next"].as_array().expect("a list");
    lines.iter().filter_map(Value::as_str).collect()
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("any port");
    listener.local_addr().expect("it is bound").port()
}

const START: &str =
    "claude --dangerously-load-development-channels plugin:claude-socket@claude-socket";
const INSTALLED: &str =
    r#"[{"id":"claude-socket@claude-socket","version":"0.1.0","scope":"user","enabled":true}]"#;
const DISABLED: &str =
    r#"[{"id":"claude-socket@claude-socket","version":"0.1.0","scope":"user","enabled":false}]"#;

#[test]
fn without_a_server_it_says_how_to_get_one() {
    let port = free_port();
    let cases = [
        ("none", "2.1.330 (Claude Code)", "[]", 3, START),
        ("installed", "2.1.330 (Claude Code)", INSTALLED, 1, START),
        ("disabled", "2.1.330 (Claude Code)", DISABLED, 2, START),
        ("old", "2.1.79 (Claude Code)", INSTALLED, 1, "claude update"),
    ];
    for (name, version, plugins, lines, last) in cases {
        let claude = Claude::new(name, version, plugins);
        let (report, ok) = examine(Some(&claude), port);
        assert!(!ok, "{name}");
        let nothing = format!("nothing listens on 127.0.0.1:{port}");
        assert_eq!(piece(&report, "server"), ("problem", nothing.as_str()));
        let next = next(&report);
        assert_eq!((next.len(), next.last()), (lines, Some(&last)), "{name}");
    }
}

#[test]
fn without_claude_it_says_so() {
    let (report, ok) = examine(None, free_port());
    assert!(!ok);
    let (state, says) = piece(&report, "claude_code");
    assert_eq!(
        (state, says),
        ("note", "the command claude is not on the PATH")
    );
    assert!(next(&report)[1].ends_with("claude-socket demo"));
}

#[test]
fn a_server_says_whose_it_is() {
    let server = Server::start(&[]);
    let _app = crate::app::App::open(server.address, "/");
    server.health_until(|health| health["clients"] == 1);
    let claude = Claude::new("fine", "2.1.330 (Claude Code)", INSTALLED);
    let (report, ok) = examine(Some(&claude), server.address.port());
    assert!(ok, "{report}");
    let (state, says) = piece(&report, "server");
    assert_eq!(state, "ok");
    for part in [
        &format!("(process {}, for ", server.pid()),
        "1 client in 1 session",
        "claude-code 2.1.330",
    ] {
        assert!(says.contains(part), "{says}");
    }
    assert_eq!(piece(&report, "claude_code"), ("ok", "2.1.330"));
    assert_eq!(piece(&report, "plugin").0, "ok");
    assert_eq!(piece(&report, "channel").0, "note");
}

#[test]
fn a_server_whose_host_says_nothing_is_a_problem() {
    let server = Server::listening(&[]);
    let (report, ok) = examine(None, server.address.port());
    assert!(!ok);
    assert_eq!(piece(&report, "channel").0, "problem");
}

#[test]
fn another_program_on_the_port_is_named() {
    let stranger = TcpListener::bind(("127.0.0.1", 0)).expect("any port");
    let port = stranger.local_addr().expect("it is bound").port();
    let (report, ok) = examine(None, port);
    assert!(!ok);
    let (state, says) = piece(&report, "server");
    assert_eq!(state, "problem");
    assert!(
        says.contains("is taken by") && says.contains(&std::process::id().to_string()),
        "{says}"
    );
    assert!(next(&report)[0].starts_with("export CLAUDE_SOCKET_PORT="));
}
