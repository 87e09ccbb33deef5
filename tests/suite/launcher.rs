//! The plugin's launcher, `plugin/bin/claude-socket`: which program it finds, what it says
//! if there is none, and that it becomes the server.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::machine::{Change, Machine, TOOLS, VERSION, path_in};
use crate::prepare::prepare;
use crate::server::{Server, address_in, binary};

/// The shells that run it: that of its first line, and others that `/bin/sh` may be.
const SHELLS: [&[&str]; 4] = [&[], &["dash"], &["bash", "--posix"], &["busybox", "sh"]];

/// Every program that a machine may have, in the order of preference, and its path.
const WAYS: [(&str, &str); 6] = [
    ("CLAUDE_SOCKET_BIN", "named/any"),
    (
        "installed",
        concat!("data/bin/claude-socket-", env!("CARGO_PKG_VERSION")),
    ),
    ("on PATH", "tools/claude-socket"),
    ("by cargo", "home/.cargo/bin/claude-socket"),
    ("release build", "checkout/target/release/claude-socket"),
    ("debug build", "checkout/target/debug/claude-socket"),
];

#[test]
fn launcher_takes_first_program_found() {
    prepare(&["bash", "busybox", "curl", "dash"]);
    for shell in SHELLS {
        let mut machine = Machine::with_release(&TOOLS);
        machine.set("CLAUDE_SOCKET_BIN", path_in(&machine.root, "named/any"));
        // The last one first, so that the release build is the newer one.
        for (name, place) in WAYS.into_iter().rev() {
            // The one that the user names may be of any version.
            let version = if name == WAYS[0].0 { "9.9.9" } else { VERSION };
            machine.stand_in(place, version, name);
        }
        for (name, place) in WAYS {
            assert_eq!(
                machine.start(shell),
                Ok(format!("{name}:a b c ")),
                "{shell:?}"
            );
            fs::remove_file(machine.path(place)).expect("the machine has the file");
            machine.unset("CLAUDE_SOCKET_BIN");
        }
        for time in ["downloaded, then installed", "installed"] {
            assert_eq!(
                machine.start(shell),
                Ok("downloaded:a b c ".to_owned()),
                "{shell:?} {time}"
            );
        }
        assert_eq!(machine.releases.asked.len(), 1, "{shell:?}");
    }
}

#[test]
fn newer_build_of_checkout_comes_first() {
    let machine = Machine::new(&TOOLS);
    for (name, place) in &WAYS[4..] {
        machine.stand_in(place, VERSION, name);
    }
    for (name, place) in WAYS[4..].iter().rev() {
        let file = File::open(machine.path(place)).expect("the machine has the file");
        let later =
            SystemTime::now() + Duration::from_mins(if *name == "debug build" { 1 } else { 2 });
        file.set_modified(later).expect("the file is ours");
        assert_eq!(machine.start(&[]), Ok(format!("{name}:a b c ")));
    }
}

/// Each case has what the launcher says instead.
#[test]
fn launcher_skips_other_programs() {
    let cases: [(&str, Change, &str); 8] = [
        (
            "a wrong name",
            |m| m.set("CLAUDE_SOCKET_BIN", "/no/such".into()),
            "CLAUDE_SOCKET_BIN is \"/no/such\"",
        ),
        (
            "a folder",
            |m| m.set("CLAUDE_SOCKET_BIN", "/".into()),
            "CLAUDE_SOCKET_BIN is \"/\"",
        ),
        (
            "a relative path",
            |m| {
                m.stand_in("elsewhere/any", VERSION, "");
                m.set("CLAUDE_SOCKET_BIN", "./any".into());
            },
            "CLAUDE_SOCKET_BIN is \"./any\"",
        ),
        (
            "an old one",
            |m| m.stand_in("tools/claude-socket", "0.0.9", ""),
            "tools/claude-socket, which is version 0.0.9.",
        ),
        (
            "an old build",
            |m| m.stand_in(WAYS[4].1, "0.0.9", ""),
            "release/claude-socket, which is version 0.0.9.",
        ),
        (
            "no version",
            |m| m.script("tools/claude-socket", "exit 1"),
            "",
        ),
        (
            "in the folder Claude works in",
            |m| {
                m.stand_in("elsewhere/claude-socket", VERSION, "");
                m.set("PATH", format!(".::{}", path_in(&m.root, "tools")));
            },
            "",
        ),
        (
            "itself",
            |m| {
                symlink(m.launcher(), m.path("tools/claude-socket"))
                    .expect("the folder takes a link")
            },
            "",
        ),
    ];
    for (what, change, said) in cases {
        let mut machine = Machine::new(&TOOLS);
        change(&mut machine);
        let stderr = machine.start(&[]).expect_err(what);
        assert!(stderr.contains(said), "{what}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{what}: {stderr}");
        assert!(stderr.contains("CLAUDE_SOCKET_BIN"), "{what}: {stderr}");
    }
}

/// It skips itself as `CLAUDE_SOCKET_BIN`.
#[test]
fn launcher_does_not_start_itself() {
    let mut machine = Machine::new(&TOOLS);
    machine.stand_in(WAYS[2].1, VERSION, "on PATH");
    machine.set(
        "CLAUDE_SOCKET_BIN",
        path_in(&machine.root, "checkout/plugin/bin/claude-socket"),
    );
    assert_eq!(machine.start(&[]), Ok("on PATH:a b c ".to_owned()));
}

/// In the folder to which Claude Code copies plugins, it finds the data of the plugin by itself.
#[test]
fn installed_program_is_found_from_claudes_shell() {
    let mut machine = Machine::new(&["readlink"]);
    machine.unset("CLAUDE_PLUGIN_DATA");
    let copy = machine.path("plugins/cache/shop/socket").join(VERSION);
    fs::create_dir_all(copy.parent().expect("the folder is made")).expect("the folder is made");
    fs::rename(machine.path("checkout/plugin"), &copy).expect("the checkout moves");
    symlink(&copy, machine.path("checkout/plugin")).expect("the folder takes a link");
    let installed = format!("plugins/data/socket-shop/bin/claude-socket-{VERSION}");
    machine.stand_in(&installed, VERSION, "installed");
    let launcher = copy.join("bin/claude-socket");
    let by_link = machine.path("link");
    symlink(&launcher, &by_link).expect("the folder takes a link");
    for start in [launcher, by_link] {
        let output = Command::new(start)
            .env_clear()
            .env("PATH", machine.path("tools"))
            .output();
        let output = output.expect("the program starts");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "installed:\n",
            "{output:?}"
        );
    }
}

/// A crash, a full disk or a proxy may have damaged it.
#[test]
fn damaged_program_is_replaced_or_reported() {
    prepare(&["bash", "busybox", "curl", "dash"]);
    let damaged = |machine: &Machine, contents: &[u8]| {
        machine.stand_in(WAYS[1].1, VERSION, "damaged");
        fs::write(machine.path(WAYS[1].1), contents).expect("the file is ours");
    };
    for shell in SHELLS {
        for contents in [&b""[..], &[0; 4096], b"<html>\n", b"garbage"] {
            let machine = Machine::with_release(&TOOLS);
            damaged(&machine, contents);
            let expected = Ok("downloaded:a b c ".to_owned());
            assert_eq!(machine.start(shell), expected, "{shell:?} {contents:?}");
        }
        // BusyBox takes what the system can't start for a script, and says that it isn't one.
        if shell != SHELLS[3] {
            let machine = Machine::with_release(&TOOLS);
            damaged(&machine, b"\x7fELF and no more");
            let said = machine.start(shell).expect_err("it can't be started");
            let path = path_in(&machine.root, WAYS[1].1);
            let sentence = format!("claude-socket: {path} could not be started");
            assert!(said.contains(&sentence), "{shell:?}: {said}");
            assert!(said.contains("Delete it"), "{said}");
        }
    }
}

/// It starts no other program for that, which would take time.
#[test]
fn program_installed_by_user_is_started() {
    let machine = Machine::new(&[]);
    machine.without(&["uname"]);
    machine.stand_in(WAYS[1].1, VERSION, "installed");
    assert_eq!(machine.start(&[]), Ok("installed:a b c ".to_owned()));
}

/// The process that Claude Code started *is* the server, which reads everything from the start.
#[test]
fn launcher_becomes_server() {
    prepare(&["curl"]);
    let machine = Machine::new(&TOOLS);
    let program = binary().get_program().to_owned();
    machine.release(program.as_ref());
    let installed = machine.path(WAYS[1].1);
    for time in ["downloaded", "installed"] {
        let mut command = machine.command(&[]);
        let mut server = Server::spawn(command.env("CLAUDE_SOCKET_PORT", "0"));
        server.initialize();
        server.address = address_in(&server.wait_for_log("listening on "));
        assert_eq!(server.health()["status"], "ok", "{time}");
        #[cfg(target_os = "linux")]
        {
            let running = fs::read_link(format!("/proc/{}/exe", server.pid()));
            assert_eq!(running.expect("the program runs"), installed, "{time}");
        }
        drop(server.stdin.take());
        assert!(server.wait_for_exit().0.success(), "{time}");
    }
    machine.assert_tidy();
    assert_eq!(machine.releases.asked.len(), 1);
}
