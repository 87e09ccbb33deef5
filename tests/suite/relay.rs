//! The relay: runs the commands of its README in their order, with the files that they name.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::{IntoClientRequest, client};
use tungstenite::{Message, WebSocket};

use crate::prepare::prepare;
use crate::proxies::{Running, Tls, free_port};
use crate::server::{Server, TEST_TIMEOUT, address_in, binary};
use crate::state::State;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/relay");
const README: &str = include_str!("../../examples/relay/README.md");
const NAME: &str = "raspberrypi.local";
/// The arguments with which the unit starts Claude Code.
const CLAUDE: &str = "--dangerously-load-development-channels plugin:claude-socket@claude-socket\n";

/// Returns the README's code blocks with this mark.
fn blocks(mark: &str) -> Vec<&'static str> {
    let fence = format!("```{mark}\n");
    let blocks = README.split(&*fence).skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.collect()
}

/// A copy of the example's folder, with a state folder in it.
struct Relay(State);

impl Relay {
    fn new() -> Self {
        let relay = Self(State::new());
        fs::create_dir_all(relay.path()).expect("the disk has room");
        for entry in fs::read_dir(FOLDER).expect("the example has a folder") {
            let entry = entry.expect("the folder is readable");
            let copy = relay.path().join(entry.file_name());
            fs::copy(entry.path(), copy).expect("the disk has room");
        }
        relay
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(self.0.path())
    }

    fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// A command in that folder, with the program under test on the `PATH`.
    fn command(&self, program: &str) -> Command {
        let binary = PathBuf::from(binary().get_program());
        let binary = binary.parent().expect("the program is in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env(
                "PATH",
                format!("{}:{path}:/usr/sbin:/sbin", binary.display()),
            )
            .env("HOME", self.path())
            .env("XDG_DATA_HOME", self.path().join("data"))
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env("TMUX_TMPDIR", self.path())
            .env_remove("TMUX")
            .env("CLAUDE_SOCKET_STATE_DIR", self.state())
            .stdin(Stdio::null());
        command
    }

    /// Runs commands, and returns their output.
    fn sh(&self, commands: &str) -> String {
        output_of(&self.command("sh").args(["-ec", commands]).output())
    }
}

fn output_of(output: &std::io::Result<Output>) -> String {
    let output = output.as_ref().expect("the command starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a condition is true, up to [`TEST_TIMEOUT`].
fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "never {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn readme_commands_set_up_tokens_and_tls() {
    prepare(&[
        "caddy",
        "curl",
        "openssl",
        "python",
        "python3",
        "systemd-analyze:systemd",
        "tmux",
    ]);
    let relay = Relay::new();
    let [tokens, validate, verify, curl] = blocks("sh")[..] else {
        panic!("the README has other commands: {:?}", blocks("sh"));
    };
    let printed = relay.sh(tokens);
    let mut printed = printed.lines();
    let mut token = || printed.next().expect("token add prints a token").to_owned();
    let (phone, cellar) = (token(), token());
    relay.sh(validate);
    relay.sh(verify);

    // The Caddyfile as it is, but for the ports and the admin endpoint.
    let mut command = relay.command(binary().get_program().to_str().expect("the path is text"));
    command.args(["demo", "--port", "0", "--pace", "1ms"]);
    let mut server = Server::spawn(&mut command);
    server.address = address_in(&server.wait_for_log("listening on "));
    let port = free_port();
    let caddyfile = relay.path().join("Caddyfile");
    let mut text = fs::read_to_string(&caddyfile).expect("the example has a Caddyfile");
    for (there, here) in [
        ("{\n\t#".to_owned(), "{\n\tadmin off\n\t#".to_owned()),
        (format!("{NAME} {{"), format!("{NAME}:{port} {{")),
        ("127.0.0.1:3100".to_owned(), server.address.to_string()),
    ] {
        assert!(text.contains(&there), "{there} is missing in {text}");
        text = text.replacen(&there, &here, 1);
    }
    fs::write(&caddyfile, text).expect("the disk has room");
    let log = fs::File::create(relay.path().join("log")).expect("the disk has room");
    let caddy = relay
        .command("caddy")
        .args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"])
        .stderr(log)
        .spawn();
    let _caddy = Running(caddy.expect("Caddy starts"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    until("listens", || std::net::TcpStream::connect(address).is_ok());
    let authority = relay
        .path()
        .join("data/caddy/pki/authorities/local/root.crt");
    let in_readme = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt";
    assert!(README.contains(in_readme));
    let root = relay.path().join("root.crt");
    fs::copy(authority, &root).expect("Caddy has made its root certificate");

    let there = format!("https://{NAME}/");
    assert!(curl.contains(&there), "{curl}");
    let curl = curl.replace(&there, &format!("https://{NAME}:{port}/"));
    let resolve = format!("resolve = {NAME}:{port}:127.0.0.1\n");
    fs::write(relay.path().join(".curlrc"), resolve).expect("the disk has room");
    let printed = relay.sh(&format!("TOKEN={phone}; {curl}"));
    let health: Value = serde_json::from_str(&printed).expect("/healthz is JSON");
    assert_eq!(health["status"], "ok", "{health}");

    // A device reaches Claude through Caddy with a token, and nobody does without.
    let websocket = |token: Option<&str>| {
        let url = format!("wss://{NAME}:{port}/?session=sensor-cellar");
        let mut request = url.into_client_request().expect("a request");
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", value);
        }
        let answer = client(request, Tls::connect(address, NAME, &root));
        answer.ok().map(|(socket, _)| socket)
    };
    assert!(websocket(None).is_none());
    let mut socket: WebSocket<Tls> = websocket(Some(&cellar)).expect("the token admits the device");
    let message = json!({ "type": "message", "content": "hello" });
    socket
        .send(Message::text(message.to_string()))
        .expect("the server reads");
    loop {
        let message = socket.read().expect("Claude answers");
        let message: Value = serde_json::from_str(message.to_text().expect("text")).expect("JSON");
        if message["type"] == "reply" {
            let content = message["content"].as_str().expect("text");
            assert!(content.starts_with("Hello, cellar!"), "{content}");
            break;
        }
    }

    // So does the sensor in Python, with the certificate authority as in the README.
    let proc = relay.path().join("proc");
    fs::create_dir(&proc).expect("the disk has room");
    fs::write(proc.join("loadavg"), "9.00 1.00 1.00 1/1 1\n").expect("the disk has room");
    fs::write(relay.path().join("sitecustomize.py"), RESOLVE).expect("the disk has room");
    let mut sensor = relay.command(&crate::examples::python());
    sensor
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/sensor.py"))
        .args(["--url", &format!("wss://{NAME}:{port}"), "--root", "."])
        .args(["--session", "sensor-cellar"])
        .env("PYTHONPATH", relay.path())
        .env("SSL_CERT_FILE", &root)
        .env("SENSOR_TOKEN", &cellar);
    let _sensor = Running(sensor.spawn().expect("the sensor starts"));
    loop {
        let message = socket
            .read()
            .expect("the session gets the sensor's message");
        let message: Value = serde_json::from_str(message.to_text().expect("text")).expect("JSON");
        if message["type"] == "user_message" {
            let content = message["content"].as_str().expect("text");
            assert!(content.contains("load 9 (too high)"), "{content}");
            break;
        }
    }
}

/// Makes Python resolve the relay's name to this machine.
const RESOLVE: &str = "import socket
there = socket.getaddrinfo
def here(host, *rest, **more):
    return there('127.0.0.1' if host == 'raspberrypi.local' else host, *rest, **more)
socket.getaddrinfo = here
";

/// The unit's command finds `claude` where a login shell does, gives it a terminal, and ends it.
#[test]
fn unit_runs_claude_in_a_terminal() {
    prepare(&["tmux"]);
    let relay = Relay::new();
    let unit =
        fs::read_to_string(relay.path().join("claude@.service")).expect("the example has a unit");
    let line = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name));
        line.expect("the unit has the line").to_owned()
    };
    let bin = relay.path().join("bin");
    fs::create_dir(&bin).expect("the disk has room");
    let fake_claude = "#!/bin/sh\ntest -t 0 && test -t 1 || exit 1\necho \"$@\" >~/given\n\
                    exec claude-socket demo --port 0 --log-file ~/log\n";
    let claude = bin.join("claude");
    fs::write(&claude, fake_claude).expect("the disk has room");
    let path = "PATH=~/bin:$MORE:$PATH\n";
    fs::write(relay.path().join(".profile"), path).expect("the disk has room");
    let more = PathBuf::from(binary().get_program());
    let more = more
        .parent()
        .expect("the program is in a folder")
        .to_owned();
    relay.sh("chmod +x bin/claude");
    let start = line("ExecStart=");
    let mut command = relay.command("sh");
    command.args(["-ec", &start]).env("MORE", more);
    output_of(&command.output());
    let read = |name: &str| fs::read_to_string(relay.path().join(name)).unwrap_or_default();
    until("listens", || read("log").contains("listening on ws://"));
    assert_eq!(read("given"), CLAUDE);
    relay.sh(&line("ExecStop="));
    let sessions = || relay.command("tmux").args(["-L", "claude", "ls"]).output();
    until("ends", || {
        !sessions().expect("tmux starts").status.success()
    });
}

/// Loads the rules in a network namespace with a neighbor.
#[test]
#[cfg(target_os = "linux")]
fn firewall_admits_tls_and_ssh_from_lan_only() {
    prepare(&["nft:nftables", "ip:iproute2", "python3"]);
    let relay = Relay::new();
    let [check] = blocks("sh netns")[..] else {
        panic!("the README has other commands: {:?}", blocks("sh netns"));
    };
    let script = format!("{check}\n{}", include_str!("relay/firewall.sh"));
    let root = relay.sh("id -u").trim() == "0";
    let mut unshare = relay.command("unshare");
    if !root {
        unshare.arg("--map-root-user");
    }
    output_of(&unshare.args(["--net", "sh", "-ec", &script]).output());
}
