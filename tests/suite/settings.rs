//! The command line: what is wrong with a value, and what would be right.

use crate::app::App;
use crate::server::{Server, binary};

/// Each setting with a bad value, and what would be right. The same for the flag and
/// for the variable.
#[test]
fn a_bad_value_is_one_clear_line_and_exit_code_2() {
    let cases = [
        ("port", "65536", "from 0 to 65535"),
        ("host", "example.org", "an IP address such as 127.0.0.1"),
        ("allowed-origins", "null", "https://example.org"),
        (
            "allowed-origins",
            "https://a.example,b.example",
            "https://example.org",
        ),
        ("session-ttl", "5", "5m"),
        ("unseen-ttl", "-1h", "24h"),
        ("permission-ttl", "0s", "30s"),
        ("max-permissions", "0", "from 1 on"),
        ("max-connections", "many", "from 1 on"),
        ("max-sessions", "1.5", "from 1 on"),
        ("max-message", "1 MiBi", "1MiB"),
        ("max-id-length", "-1", "from 1 on"),
        ("history-messages", "0", "from 1 on"),
        ("history-size", "0", "1MiB"),
        ("history-total", "much", "1MiB"),
        ("max-backlog", "x", "4MB"),
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
            let output = output.expect("it runs");
            let stderr = String::from_utf8(output.stderr).expect("it is text");
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

/// `"${NAME:-}"` in somebody's configuration.
#[test]
fn an_empty_variable_counts_as_unset() {
    for name in ["PORT", "HOST", "ALLOWED_ORIGINS", "LOG_FILE", "SESSION_TTL"] {
        let variable = format!("CLAUDE_SOCKET_{name}");
        let output = binary().arg("--version").env(&variable, "").output();
        assert!(output.expect("it runs").status.success(), "{name}");
        let mut command = binary();
        let output = command
            .args(["--max-sessions", "0"])
            .env(&variable, "")
            .output();
        let stderr = String::from_utf8(output.expect("it runs").stderr).expect("it is text");
        assert!(stderr.contains("--max-sessions"), "{name}: {stderr}");
    }
    let output = binary().arg("--port").output().expect("it runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "claude-socket: --port needs a value\n"
    );
}

#[test]
fn a_ping_timeout_that_leaves_no_time_for_a_pong_is_refused() {
    let flags = ["--ping-interval", "30s", "--ping-timeout", "20s"];
    let output = binary().args(flags).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("--ping-timeout") && stderr.contains("30s"),
        "{stderr}"
    );
}

#[test]
fn settings_are_taken_as_people_write_them() {
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
        "https://a.example, https://b.example",
        "--approve-own-tools",
        "no",
    ];
    let server = Server::start(&flags);
    App::connect(&server, "s1");
}

#[test]
fn help_and_version_are_what_people_expect() {
    let output = binary().arg("--version").output().expect("it runs");
    let version = concat!("claude-socket ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
    for flag in ["--help", "-h"] {
        let output = binary().arg(flag).output().expect("it runs");
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
    let output = binary().arg("--prot").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--port"),
        "it suggests the right one"
    );
}

/// Every setting of `--help` is in the README's table, with its variable and default.
#[test]
fn the_readme_lists_every_setting() {
    let help = binary().arg("--help").output().expect("it runs").stdout;
    let help = String::from_utf8(help).expect("it is text");
    let readme = include_str!("../../README.md");
    let settings = help.split("Settings:").nth(1).expect("they have a heading");
    let mut flag = "";
    let mut rows = 0;
    for line in settings.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("--") {
            flag = name.split(' ').next().unwrap_or_default();
            let row = format!(
                "| `--{flag}` | `CLAUDE_SOCKET_{}` |",
                flag.replace('-', "_").to_uppercase()
            );
            assert!(readme.contains(&row), "the README has no row {row}");
            rows += 1;
        } else if let Some(default) = line.strip_prefix("[default: ") {
            let default = format!("| `{}` |", default.trim_end_matches(']'));
            let row = readme
                .lines()
                .find(|row| row.contains(&format!("| `--{flag}` |")));
            assert!(
                row.is_some_and(|row| row.contains(&default)),
                "{flag}: {default}"
            );
        }
    }
    assert!(rows > 15, "{rows}");
}

/// Who was there is logged; what was said is not.
#[test]
fn the_log_goes_to_a_file_too_and_holds_no_content() {
    let path = std::env::temp_dir().join(format!("claude-socket-test-{}.log", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let mut server = Server::start(&[
        "--log-file",
        path.to_str().expect("it is text"),
        "--log-level",
        "info",
    ]);
    let mut app = App::connect(&server, "s1");
    app.say("a secret");
    assert_eq!(server.heard()["content"], "a secret");
    drop(server.stdin.take());
    assert!(server.ended().0.success());
    let log = std::fs::read_to_string(&path).expect("it was written");
    std::fs::remove_file(&path).expect("it is there");
    assert!(
        log.contains("is in session \"s1\"") && log.contains("stdin has ended"),
        "{log}"
    );
    assert!(!log.contains("secret"), "{log}");

    let output = binary()
        .args(["--log-file", "/nowhere/at/all.log"])
        .output()
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("/nowhere/at/all.log") && stderr.contains("CLAUDE_SOCKET_LOG_FILE"),
        "{stderr}"
    );
}
