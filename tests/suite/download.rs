//! The plugin's launcher when it downloads a release: its tools, and its errors.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{ASSET, Change, Machine, TOOLS, VERSION, which};
use crate::prepare::prepare;
use crate::releases::Answer;
use crate::server::TEST_TIMEOUT;

#[test]
fn download_works_with_any_tool_found() {
    prepare(&["busybox", "curl", "openssl", "wget"]);
    let cases: [(&str, Change); 7] = [
        ("curl", |_| {}),
        ("from the repository", |m| {
            m.unset("CLAUDE_SOCKET_RELEASES_URL");
            m.repository(&format!("http://{}/d", m.releases.address));
            let path = format!("/d/releases/download/v{VERSION}/{ASSET}");
            m.releases
                .put(&path, Answer::File(m.release(&m.path("new"))));
        }),
        ("wget", |m| replace(m, "curl", "wget")),
        ("wget without timeout", |m| {
            replace(m, "curl", "wget");
            m.without(&["timeout"])
        }),
        ("shasum", |m| replace(m, "sha256sum", "shasum")),
        ("openssl", |m| replace(m, "sha256sum", "openssl")),
        ("busybox", |m| {
            m.without(&TOOLS);
            for tool in TOOLS.map(|tool| if tool == "curl" { "wget" } else { tool }) {
                symlink(which("busybox"), m.path("tools").join(tool))
                    .expect("the folder takes a link");
            }
        }),
    ];
    for (what, change) in cases {
        let mut machine = Machine::with_release(&TOOLS);
        change(&mut machine);
        assert_eq!(
            machine.start(&[]),
            Ok("downloaded:a b c ".to_owned()),
            "{what}"
        );
    }
}

fn replace(machine: &Machine, tool: &str, by: &str) {
    machine.without(&[tool]);
    symlink(which(by), machine.path("tools").join(by)).expect("the folder takes a link");
}

/// Each case has what the launcher says.
#[test]
fn failed_download_is_explained() {
    prepare(&["curl"]);
    let cases: [(&str, Change, &str); 17] = [
        (
            "no address",
            |m| m.unset("CLAUDE_SOCKET_RELEASES_URL"),
            "doesn't name a repository yet",
        ),
        (
            "a wrong address",
            |m| {
                m.unset("CLAUDE_SOCKET_RELEASES_URL");
                m.repository("http://127.0.0.1:1");
            },
            "run \"cargo install --locked --git http://127.0.0.1:1\"",
        ),
        (
            "no network",
            |m| m.set("CLAUDE_SOCKET_RELEASES_URL", "http://127.0.0.1:1".into()),
            "could not be downloaded",
        ),
        (
            "no such release",
            |m| {
                m.set(
                    "CLAUDE_SOCKET_RELEASES_URL",
                    format!("http://{}", m.releases.address),
                )
            },
            "could not be downloaded",
        ),
        (
            "cut short",
            |m| m.serve(Answer::Half(vec![b'x'; 100_000])),
            "could not be downloaded",
        ),
        (
            "cut short, unnoticed",
            |m| m.serve(Answer::File(vec![0x1f, 0x8b])),
            "checksums.txt says",
        ),
        (
            "empty",
            |m| m.serve(Answer::File(vec![])),
            "checksums.txt says",
        ),
        (
            "too slow",
            |m| {
                m.serve(Answer::Never);
                m.without(&["curl"]);
                m.script(
                    "tools/curl",
                    &format!(
                        "case \"$*\" in *'--max-time 20 '*) exec '{}' \"$@\" --max-time 1 ;; esac",
                        which("curl").display()
                    ),
                );
            },
            "could not be downloaded",
        ),
        (
            "a wrong checksum",
            |m| m.checksums(&format!("{}  {ASSET}\n", "0".repeat(64))),
            "checksums.txt says 0000",
        ),
        (
            "no checksum",
            |m| m.checksums("# None.\n"),
            "has no checksum of",
        ),
        (
            "no checksums.txt",
            |m| {
                fs::remove_file(m.path("checkout/plugin/checksums.txt"))
                    .expect("the checkout has checksums")
            },
            "has no checksum of",
        ),
        (
            "no archive",
            |m| {
                m.serve(Answer::File(b"hello".to_vec()));
                m.add_checksum(b"hello");
            },
            "could not be unpacked",
        ),
        (
            "another version",
            |m| {
                m.stand_in("other", "0.0.9", "");
                m.release(&m.path("other"));
            },
            "doesn't run here as claude-socket",
        ),
        (
            "neither curl nor wget",
            |m| m.without(&["curl"]),
            "neither curl nor wget",
        ),
        (
            "no way to check",
            |m| m.without(&["sha256sum"]),
            "neither sha256sum nor shasum nor openssl",
        ),
        (
            "no folder",
            |m| m.unset("CLAUDE_PLUGIN_DATA"),
            "CLAUDE_PLUGIN_DATA isn't set",
        ),
        (
            "no room",
            |m| fs::write(m.path("data"), "").expect("the folder takes a file"),
            "nothing can be written to",
        ),
    ];
    for (what, change, said) in cases {
        let mut machine = Machine::with_release(&TOOLS);
        change(&mut machine);
        let stderr = machine.start(&[]).expect_err(what);
        let paragraph = stderr.lines().last().expect("the launcher prints a reason");
        for part in [said, "cargo install", "on the PATH", "CLAUDE_SOCKET_BIN"] {
            assert!(paragraph.contains(part), "{what}: {stderr}");
        }
    }
}

#[test]
fn machine_selects_archive() {
    let cases = [
        ("Linux", "x86_64", "x86_64-linux"),
        ("Linux", "aarch64", "aarch64-linux"),
        ("Linux", "armv7l", "armv7-linux"),
        ("Linux", "armv8l", "armv7-linux"),
        ("Linux", "armv6l", "armv6-linux"),
        ("Darwin", "x86_64", "x86_64-macos"),
        ("Darwin", "arm64", "aarch64-macos"),
        ("Linux", "riscv64", ""),
        ("Darwin", "Power Macintosh", ""),
        ("FreeBSD", "amd64", ""),
    ];
    let machine = Machine::new(&TOOLS);
    for (system, name, platform) in cases {
        machine.set_uname(system, name);
        let stderr = machine.start(&[]).expect_err("there is no release");
        let said = if platform.is_empty() {
            format!("there is no release for {system} {name}")
        } else {
            format!("no checksum of claude-socket-{VERSION}-{platform}.tar.gz")
        };
        assert!(stderr.contains(&said), "{stderr}");
    }
}

#[test]
fn concurrent_downloads_install_one_program() {
    prepare(&["curl"]);
    let machine = Machine::with_release(&TOOLS);
    let children: Vec<_> = (0..8)
        .map(|_| {
            machine
                .command(&[])
                .stdout(Stdio::piped())
                .spawn()
                .expect("the program starts")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("the program runs");
        assert_eq!(output.stdout, b"downloaded:\n", "{output:?}");
    }
    machine.assert_tidy();
}

/// It leaves no process and no file.
#[test]
fn signal_ends_download() {
    prepare(&["busybox", "curl", "wget"]);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        for tool in ["curl", "wget"] {
            let machine = Machine::with_release(&TOOLS);
            if tool != "curl" {
                replace(&machine, "curl", tool);
            }
            machine.serve(Answer::Never);
            let mut child = machine.command(&[]).spawn().expect("the program starts");
            machine
                .releases
                .asked
                .recv_timeout(TEST_TIMEOUT)
                .expect("the launcher asks for the release");
            let pid =
                Pid::from_raw(i32::try_from(child.id()).expect("the launcher has a process id"))
                    .expect("the launcher has a process id");
            kill_process(pid, signal).expect("the program runs");
            let status = child.wait().expect("the program runs");
            assert_eq!(status.code(), Some(code), "{tool} {signal:?}");
            machine
                .releases
                .gone
                .recv_timeout(TEST_TIMEOUT)
                .expect("the download ends, too");
            machine.assert_tidy();
        }
    }
}
