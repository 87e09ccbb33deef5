//! The examples, as their READMEs start them, with the real server behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crossbeam_channel::{Receiver, unbounded};
use serde_json::json;

use crate::prepare::prepare;
use crate::server::{Server, TEST_TIMEOUT, binary};
use crate::state::State;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// A program that runs as long as the test does.
struct Program {
    child: Child,
    printed: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (to_test, printed) = unbounded();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Read on, whether the test listens or not.
                let _ = to_test.send(line);
            }
        });
        Self { child, printed }
    }

    fn prints(&self, line: &str) {
        let printed = self.printed.recv_timeout(TEST_TIMEOUT);
        assert_eq!(printed.as_deref(), Ok(line));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder with the files that a sensor reads.
struct Machine(State);

impl Machine {
    fn new() -> Self {
        let machine = Self(State::new());
        for folder in ["proc", "sys/class/thermal/thermal_zone0"] {
            fs::create_dir_all(machine.path().join(folder)).expect("a file can be written");
        }
        machine
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(self.0.path())
    }

    /// Writes what the kernel would: thousandths of a degree, and the load of 1, 5 and 15 minutes.
    fn set(&self, millidegrees: u32, load: &str) {
        // A reader must never find an empty file.
        let write = |name: &str, text: String| {
            let path = self.path().join(name);
            let new = path.with_extension("new");
            fs::write(&new, text).expect("a file can be written");
            fs::rename(new, path).expect("the file can be renamed");
        };
        write(
            "sys/class/thermal/thermal_zone0/temp",
            format!("{millidegrees}\n"),
        );
        write("proc/loadavg", format!("{load} 0.30 0.20 1/100 4711\n"));
    }
}

/// Checks what a sensor must do in any language. `program` is started with the address, a token,
/// and the options that all of them have; durations are written differently.
fn check_sensor(mut program: Command, [every, pause]: [&str; 2]) {
    let state = State::new();
    let token = state.add("cellar", "sender", Some("sensor-*"));
    let mut server = Server::start(&["--state-dir", state.path()]);
    let machine = Machine::new();
    machine.set(50_000, "0.25");
    let switch = machine.path().join("gpio");
    program
        .args(["--url", &format!("ws://{}", server.address)])
        .args(["--session", "sensor-cellar", "--every", every])
        .args(["--pause", pause])
        .arg("--switch")
        .arg(&switch)
        .arg("--root")
        .arg(machine.path())
        .env("SENSOR_TOKEN", &token);
    let program = Program::start(&mut program);

    // Nothing is reported until a threshold is crossed.
    machine.set(69_900, "0.25");
    server.token = Some(token);
    server.wait_for_health(|health| health["clients"] == 1);
    machine.set(71_500, "0.25");
    let heard = server.next_message();
    let content = heard["content"]
        .as_str()
        .expect("the content is a string")
        .to_owned();
    assert_eq!(heard["meta"]["user"], "cellar", "{heard}");
    for part in ["71.5", "temperature", "too high", "load 0.25", "on or off"] {
        assert!(content.contains(part), "{part} is missing: {content}");
    }
    let answer = json!({ "chat_id": "sensor-cellar", "text": "I see. Switch it on." });
    server.call("reply", &answer);
    program.prints("I see. Switch it on.");
    wait_for_content(&switch, "1");

    // Between the thresholds a state stays. The load is reported when its state changes.
    machine.set(66_000, "5.00");
    let content = server.next_message()["content"].to_string();
    for part in ["66", "load 5", "too high"] {
        assert!(content.contains(part), "{part} is missing: {content}");
    }
    assert_eq!(content.matches("too high").count(), 2, "{content}");
    machine.set(60_000, "5.00");
    let content = server.next_message()["content"].to_string();
    assert_eq!(content.matches("all right").count(), 1, "{content}");

    // Only an answer with exactly one of the words counts.
    for (text, state) in [("on or off, as you like", "1"), ("Off, please.", "0")] {
        server.call(
            "reply",
            &json!({ "chat_id": "sensor-cellar", "text": text }),
        );
        program.prints(text);
        wait_for_content(&switch, state);
    }
}

/// Waits until a file has this content.
fn wait_for_content(file: &Path, text: &str) {
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    let read = || fs::read_to_string(file).unwrap_or_default();
    while read().trim_end() != text {
        assert!(std::time::Instant::now() < deadline, "it is «{}»", read());
        thread::yield_now();
    }
}

/// Returns the path of the Python that `tests/prepare` has installed.
pub fn python() -> String {
    let target = std::env::var("CARGO_TARGET_DIR");
    let target = target.unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/target").into());
    format!("{target}/python/bin/python")
}

#[test]
fn python_sensor_reports_changes_and_switches() {
    prepare(&["python3", "python"]);
    let mut python = Command::new(python());
    python.arg(format!("{EXAMPLES}/sensor.py"));
    check_sensor(python, ["0.05", "0.2"]);
}

/// Builds `sensor.rs`, as its README says.
fn sensor() -> Command {
    let folder = PathBuf::from(binary().get_program());
    let folder = folder
        .parent()
        .expect("the binary is in a folder")
        .to_owned();
    let target = folder.parent().expect("the binary is in a folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--locked", "--quiet", "--example", "sensor"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let built = cargo.status().expect("cargo starts");
    assert!(built.success());
    Command::new(folder.join("examples/sensor"))
}

#[test]
fn rust_sensor_reports_changes_and_switches() {
    check_sensor(sensor(), ["50ms", "200ms"]);
}

#[test]
fn sensor_service_notifies_systemd_and_fails_without_load() {
    let state = State::new();
    let token = state.add("cellar", "sender", Some("sensor-*"));
    let mut server = Server::start(&["--state-dir", state.path()]);
    let machine = Machine::new();
    machine.set(50_000, "0.25");
    let credentials = machine.path().join("credentials");
    fs::create_dir(&credentials).expect("a file can be written");
    fs::write(credentials.join("token"), format!("{token}\n")).expect("a file can be written");
    let systemd = machine.path().join("notify");
    let socket = UnixDatagram::bind(&systemd).expect("a file can be written");
    socket
        .set_read_timeout(Some(TEST_TIMEOUT))
        .expect("a timeout");
    let mut command = sensor();
    command
        .args(["--url", &format!("ws://{}", server.address)])
        .args(["--session", "sensor-cellar", "--root"])
        .arg(machine.path())
        .env("CREDENTIALS_DIRECTORY", credentials)
        .env("NOTIFY_SOCKET", systemd)
        .env("WATCHDOG_USEC", "100000");
    let mut program = Program::start(&mut command);
    let mut buffer = [0; 256];
    let mut said = || {
        let length = socket.recv(&mut buffer).expect("the sensor notifies");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(said(), "READY=1");
    server.token = Some(token);
    server.wait_for_health(|health| health["clients"] == 1);
    let mut heard: Vec<String> = (0..8).map(|_| said()).collect();
    assert!(
        heard.iter().any(|line| line == "STATUS=connected"),
        "{heard:?}"
    );
    heard.retain(|line| !line.starts_with("STATUS="));
    assert!(
        heard.len() >= 3 && heard.iter().all(|line| line == "WATCHDOG=1"),
        "{heard:?}"
    );
    fs::remove_file(machine.path().join("proc/loadavg")).expect("the load is there");
    let ended = program.child.wait().expect("the sensor ends");
    assert_eq!(ended.code(), Some(1));
}

/// The threshold leaves little that the unit could still forbid.
#[test]
fn sensor_unit_passes_checks_of_systemd() {
    prepare(&["systemd-analyze:systemd"]);
    let folder = Machine::new();
    let unit = fs::read_to_string(format!("{EXAMPLES}/sensor.service")).expect("the unit is there");
    let installed = "/usr/local/bin/claude-socket-sensor";
    assert!(unit.contains(installed), "{unit}");
    let sensor = sensor();
    let unit = unit.replace(installed, &sensor.get_program().to_string_lossy());
    let copy = folder.path().join("sensor.service");
    fs::write(&copy, unit).expect("a file can be written");
    for arguments in [
        &["verify"][..],
        &["security", "--no-pager", "--offline=true", "--threshold=20"],
    ] {
        let mut analyze = Command::new("systemd-analyze");
        let output = analyze.args(arguments).arg(&copy).output();
        let output = output.expect("the program starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert!(arguments[0] == "security" || said.is_empty(), "{said}");
    }
}
