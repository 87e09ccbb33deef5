//! Settings: their values, their errors, and their document.

use std::fs;
use std::path::Path;

use clap::{Arg, Command};
use claude_socket::args;

use crate::app::App;
use crate::server::{Server, binary};

/// The line names the flag, the variable, the value, and what would be right, for a flag and for a
/// variable.
#[test]
fn bad_value_is_explained_in_one_line() {
    let cases = [
        ("port", "65536", "from 0 to 65535"),
        ("host", "example.org", "an IP address such as 127.0.0.1"),
        ("allowed-origins", "null", "https://example.org"),
        (
            "allowed-origins",
            "https://a.example,b.example",
            "\"b.example\" is not an origin; give it as browsers send it, such as https://example.org",
        ),
        ("allowed-origins", "file://,*", "\"*\" cannot be listed"),
        ("agent", " ann", "1 to 128 characters"),
        ("session-ttl", "5", "5m"),
        ("unseen-ttl", "-1h", "24h"),
        ("permission-ttl", "0s", "30s"),
        ("max-permissions", "0", "from 1 on"),
        ("max-connections", "many", "from 1 on"),
        ("max-sessions", "1.5", "from 1 on"),
        ("max-sessions-per-token", "0", "from 1 on"),
        ("max-message", "1 MiBi", "1MiB"),
        ("max-frame", "big", "4MB"),
        ("max-id-length", "-1", "from 1 on"),
        ("history-ttl", "forever", "30d, or 0"),
        ("history-disk", "1023KiB", "from 1MiB on"),
        ("history-messages", "0", "from 1 on"),
        ("history-size", "0", "1MiB"),
        ("history-total", "much", "1MiB"),
        ("receipts-total", "some", "1MiB"),
        ("max-backlog", "x", "4MB"),
        ("max-pending", "0", "4MB"),
        ("handshake-timeout", "fast", "500ms"),
        ("ping-interval", "0", "30s"),
        ("ping-timeout", "x", "30s"),
        ("approve-own-tools", "maybe", "true or false"),
        ("log-level", "loud", "info, debug"),
    ];
    for (name, value, right) in cases {
        let variable = format!("CLAUDE_SOCKET_{}", name.replace('-', "_").to_uppercase());
        let by_flag = binary().arg(format!("--{name}={value}")).output();
        let by_variable = binary().env(&variable, value).output();
        for output in [by_flag, by_variable] {
            let output = output.expect("the program runs");
            let stderr = String::from_utf8(output.stderr).expect("the output is text");
            assert_eq!(output.status.code(), Some(2), "{name}={value}: {stderr}");
            assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
            for part in [
                &format!("--{name}"),
                &variable,
                &format!("\"{value}\""),
                right,
            ] {
                assert!(stderr.contains(part), "{part} is missing in: {stderr}");
            }
            assert!(output.stdout.is_empty(), "stdout is for Claude Code");
        }
    }
}

/// `"${NAME:-}"` in a configuration makes such variables.
#[test]
fn empty_variable_counts_as_unset() {
    for name in ["PORT", "HOST", "ALLOWED_ORIGINS", "LOG_FILE", "SESSION_TTL"] {
        let variable = format!("CLAUDE_SOCKET_{name}");
        let output = binary().arg("--version").env(&variable, "").output();
        assert!(output.expect("the program runs").status.success(), "{name}");
        let mut command = binary();
        let output = command
            .args(["--max-sessions", "0"])
            .env(&variable, "")
            .output();
        let stderr = String::from_utf8(output.expect("the program runs").stderr)
            .expect("the output is text");
        assert!(stderr.contains("--max-sessions"), "{name}: {stderr}");
    }
    let output = binary().arg("--port").output().expect("the program runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "claude-socket: --port needs a value\n"
    );
}

#[test]
fn ping_timeout_below_interval_is_refused() {
    let flags = ["--ping-interval", "30s", "--ping-timeout", "20s"];
    let output = binary().args(flags).output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("--ping-timeout") && stderr.contains("30s"),
        "{stderr}"
    );
}

/// What a client may send must fit into a frame for the others.
#[test]
fn sizes_that_do_not_fit_together_are_refused() {
    let cases: [(&[&str], &[&str]); 5] = [
        (
            &["--max-message", "1MiB"],
            &["--max-message", "1048576", "458752", "--max-frame"],
        ),
        (
            &["--max-frame", "256KiB"],
            &["--max-message", "458752", "229376", "--max-frame"],
        ),
        (
            &["--max-frame", "8KiB", "--max-message", "1KiB"],
            &["--max-frame", "8192", "16384"],
        ),
        (
            &["--max-id-length", "100000"],
            &["--max-frame", "6408192", "--max-id-length", "100000"],
        ),
        (
            &["--max-pending", "1MiB"],
            &["--max-pending", "1048576", "1835008", "--max-message"],
        ),
    ];
    for (flags, parts) in cases {
        let output = binary().args(flags).output().expect("the program runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part} is missing in: {stderr}");
        }
    }
    let large = ["--max-message", "1MiB", "--max-frame", "1200KiB"];
    App::connect(&Server::start(&large), "s1");
}

#[test]
fn settings_are_parsed_as_people_write_them() {
    let flags = [
        "--host",
        "localhost",
        "--session-ttl",
        "1h 30m",
        "--max-message",
        "64 KiB",
        "--max-backlog",
        "2MB",
        "--allowed-origins",
        "https://a.example, file://, capacitor://localhost,",
        "--approve-own-tools",
        "no",
    ];
    let server = Server::start(&flags);
    App::connect(&server, "s1");
}

#[test]
fn help_version_and_typo_are_answered() {
    let output = binary()
        .arg("--version")
        .output()
        .expect("the program runs");
    let version = concat!("claude-socket ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
    for flag in ["--help", "-h"] {
        let output = binary().arg(flag).output().expect("the program runs");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success());
        for part in [
            "demo",
            "--port",
            "CLAUDE_SOCKET_PORT",
            "3100",
            "--session-ttl",
            "5m",
        ] {
            assert!(help.contains(part), "{part} is missing in: {help}");
        }
    }
    let output = binary().arg("--prot").output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--port"),
        "it suggests the right one"
    );
}

/// With `UPDATE=1` docs/settings.md is written anew.
#[test]
fn settings_document_matches_command_line() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let document = settings_document();
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(&path, &document).expect("the document can be written");
    }
    let current = fs::read_to_string(&path).expect("the document can be read");
    assert!(
        current == document,
        "docs/settings.md is not current; run: UPDATE=1 cargo test --test suite settings_document"
    );
    // Nothing that people see in the help is missing.
    let help = binary()
        .arg("--help")
        .output()
        .expect("the program runs")
        .stdout;
    let help = String::from_utf8(help).expect("the output is text");
    let settings = help.split("Settings:").nth(1).expect("they have a heading");
    let flags = settings
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    let flags: Vec<_> = flags.collect();
    assert!(flags.len() > 15, "{flags:?}");
    for flag in flags {
        assert!(document.contains(&format!("| `{flag}` |")), "{flag}");
    }
}

const INTRODUCTION: &str = "\
<!-- Generated from src/config.rs by tests/suite/settings.rs: UPDATE=1 cargo test --test suite settings_document -->

# Settings

Each is a flag or an environment variable; the flag counts if both are given, and an empty variable counts as unset.
Durations are written as `30s`, `5m` or `1h 30m`, sizes as `64KiB` or `4MB`.
What happens beyond a limit, and the limits that no setting changes: see the [limits](limits.md).

`CLAUDE_SOCKET_TOKEN` is a variable only, as everyone on a machine can see the arguments of every process: for the server
an operator's token, for a command the token to connect with. See [who may connect](access.md).

## The server

";
const COMMANDS: &str = "
## The commands

`demo` takes every setting of the server. Others take some of them:

";
const OWN_FLAGS: &str = "
A setting may also stand before the command: `claude-socket --port 3200 watch`. Other flags belong to one command:

";

fn settings_document() -> String {
    let mut program = args::cli_command();
    program.build();
    let is_setting = |arg: &&Arg| {
        let is_standard = ["help", "version"].contains(&arg.get_id().as_str());
        arg.get_long().is_some() && !arg.is_hide_set() && !is_standard
    };
    let mut document = INTRODUCTION.to_owned();
    document += "| flag | variable | default | meaning |\n|---|---|---|---|\n";
    let server: Vec<&Arg> = program.get_arguments().filter(is_setting).collect();
    for setting in &server {
        document += &format!("|{}\n", cells(setting));
    }
    let is_of_server = |arg: &&Arg| {
        let mut flags = server.iter().map(|setting| setting.get_long());
        flags.any(|flag| flag == arg.get_long())
    };
    document += COMMANDS;
    document += "| command | settings |\n|---|---|\n";
    let mut own = String::new();
    for (name, command) in commands(&program, "") {
        let arguments = || command.get_arguments().filter(is_setting);
        let shared = arguments().filter(is_of_server).map(flag);
        let shared = shared.collect::<Vec<_>>().join(", ");
        if name != "demo" && !shared.is_empty() {
            document += &format!("| `{name}` | {shared} |\n");
        }
        for setting in arguments().filter(|arg| !is_of_server(arg)) {
            own += &format!("| `{name}` |{}\n", cells(setting));
        }
    }
    document += OWN_FLAGS;
    document += "| command | flag | variable | default | meaning |\n|---|---|---|---|---|\n";
    document + &own
}

/// Returns the commands without further commands below, with their full names.
fn commands<'a>(program: &'a Command, parent: &str) -> Vec<(String, &'a Command)> {
    let mut found = Vec::new();
    let named = program
        .get_subcommands()
        .filter(|command| command.get_name() != "help");
    for command in named {
        let name = format!("{parent}{}", command.get_name());
        let below = commands(command, &format!("{name} "));
        if below.is_empty() {
            found.push((name, command));
        }
        found.extend(below);
    }
    found
}

fn flag(setting: &Arg) -> String {
    format!("`--{}`", setting.get_long().expect("a setting has a flag"))
}

/// Returns the cells of a row: flag, variable, default, meaning.
fn cells(setting: &Arg) -> String {
    let code = |text: &str| match text {
        "" => String::new(),
        text => format!(" `{text}`"),
    };
    let variable = setting.get_env().unwrap_or_default().to_string_lossy();
    let defaults = setting.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
    // A flag without a value has the default "false", which says nothing.
    let default = if setting.get_action().takes_values() {
        defaults.join(" ")
    } else {
        String::new()
    };
    let help = setting.get_help().expect("every setting has help");
    format!(
        " {} |{} |{} | {help}. |",
        flag(setting),
        code(&variable),
        code(&default)
    )
}

#[test]
fn log_file_has_events_and_no_content() {
    let path = std::env::temp_dir().join(format!("claude-socket-test-{}.log", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let mut server = Server::start(&[
        "--log-file",
        path.to_str().expect("the output is text"),
        "--log-level",
        "info",
    ]);
    let mut app = App::connect(&server, "s1");
    app.send_message("a secret");
    assert_eq!(server.next_message()["content"], "a secret");
    drop(server.stdin.take());
    assert!(server.wait_for_exit().0.success());
    let log = std::fs::read_to_string(&path).expect("the log file is written");
    std::fs::remove_file(&path).expect("the log file is ours");
    assert!(
        log.contains("is in session \"s1\"") && log.contains("stdin has ended"),
        "{log}"
    );
    assert!(!log.contains("secret"), "{log}");

    let output = binary()
        .args(["--log-file", "/nowhere/at/all.log"])
        .output()
        .expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("/nowhere/at/all.log") && stderr.contains("CLAUDE_SOCKET_LOG_FILE"),
        "{stderr}"
    );
}
