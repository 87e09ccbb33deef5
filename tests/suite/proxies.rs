//! The proxies of docs/access.md, with the configurations given there, in front of the real
//! server: TLS, a token, and what is refused without one.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::{IntoClientRequest, client};
use tungstenite::{Message, WebSocket};

use crate::prepare::prepare;
use crate::server::{Server, TEST_TIMEOUT, status_of};
use crate::state::State;

/// The name in docs/access.md.
const NAME: &str = "chat.example.org";

/// A process that is killed when this is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running proxy with a self-signed certificate.
struct Proxy {
    _process: Running,
    address: SocketAddr,
    certificate: PathBuf,
    /// Dropped last: it removes the folder with the files above.
    _state: State,
}

/// Returns the code block of this language in docs/access.md, with the paths and ports of the test.
fn configuration(language: &str, folder: &Path, listen: u16, server: SocketAddr) -> String {
    let document = include_str!("../../docs/access.md");
    let fence = format!("```{language}\n");
    let block = document
        .split(&fence)
        .nth(1)
        .expect("docs/access.md has such a block");
    let block = block.split("```").next().expect("the block ends");
    let folder = folder.to_str().expect("the path is text");
    let mut text = block.to_owned();
    for (there, here) in [
        ("/etc/ssl", folder.to_owned()),
        ("127.0.0.1:3100", server.to_string()),
    ] {
        assert!(text.contains(there), "{there} is missing in {text}");
        text = text.replace(there, &here);
    }
    match language {
        "caddyfile" => {
            let site = format!("{NAME} {{");
            assert!(text.starts_with(&site), "{text}");
            let global = "{\n admin off\n auto_https disable_redirects\n}\n";
            text.replacen(&site, &format!("{global}https://{NAME}:{listen} {{"), 1)
        }
        _ => {
            assert!(text.contains("listen 443 ssl;"), "{text}");
            let text = text.replace(
                "listen 443 ssl;",
                &format!("listen 127.0.0.1:{listen} ssl;"),
            );
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
                .concat();
            format!(
                "daemon off; master_process off; pid {folder}/pid; error_log stderr;\n\
                 events {{}}\nhttp {{\n{temporary}{text}}}\n"
            )
        }
    }
}

fn run(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

/// Returns a command that may be in `/usr/sbin`, as on Debian.
fn administrators(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

impl Proxy {
    /// Starts the proxy of this name in front of a server.
    fn start(name: &str, server: &Server) -> Self {
        prepare(&[name, "openssl"]);
        let state = State::new();
        let folder = PathBuf::from(state.path());
        fs::create_dir_all(&folder).expect("the test owns the folder");
        let certificate = folder.join("chat.pem");
        run(Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"])
            .args(["-subj", "/CN=chat.example.org", "-addext"])
            .args(["subjectAltName=DNS:chat.example.org", "-keyout"])
            .arg(folder.join("chat.key"))
            .arg("-out")
            .arg(&certificate));
        let listen = free_port();
        let language = match name {
            "caddy" => "caddyfile",
            other => other,
        };
        let file = folder.join("configuration");
        let text = configuration(language, &folder, listen, server.address);
        fs::write(&file, text).expect("the test owns the folder");
        let mut command = administrators(name);
        match name {
            "caddy" => command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(&file)
                .env("HOME", &folder)
                .env("XDG_DATA_HOME", folder.join("data"))
                .env("XDG_CONFIG_HOME", folder.join("config")),
            _ => command.arg("-p").arg(&folder).arg("-c").arg(&file),
        };
        let log = fs::File::create(folder.join("log")).expect("the test owns the folder");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let proxy = Self {
            _process: Running(child),
            address: SocketAddr::from(([127, 0, 0, 1], listen)),
            certificate,
            _state: state,
        };
        let deadline = Instant::now() + TEST_TIMEOUT;
        while TcpStream::connect(proxy.address).is_err() {
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "it doesn't listen: {}", log());
            thread::park_timeout(Duration::from_millis(5));
        }
        proxy
    }

    /// Connects by TLS and checks the certificate.
    fn connect(&self) -> Tls {
        Tls::connect(self.address, NAME, &self.certificate)
    }

    /// Returns the response to a plain request.
    fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let mut tls = self.connect();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n{headers}\r\n");
        tls.write_all(head.as_bytes()).expect("the proxy reads");
        let mut answer = String::new();
        tls.read_to_string(&mut answer)
            .expect("the response is text");
        (status_of(&answer), answer)
    }

    /// Opens a WebSocket with these further headers, or returns the status of the refusal.
    fn websocket(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<WebSocket<Tls>, u16> {
        let url = format!("wss://{NAME}{path}");
        let mut request = url.into_client_request().expect("the URL is valid");
        for (name, value) in headers {
            let value = value.parse().expect("the header is valid");
            request.headers_mut().insert(*name, value);
        }
        match client(request, self.connect()) {
            Ok((socket, answer)) => {
                let protocol = answer.headers().get("sec-websocket-protocol");
                let asked = headers
                    .iter()
                    .any(|(name, _)| *name == "sec-websocket-protocol");
                assert_eq!(
                    protocol.is_some_and(|protocol| protocol == "claude-socket"),
                    asked
                );
                Ok(socket)
            }
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Returns a port that is free. Another program could take it before it is used, but hardly does.
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + (std::process::id() % 4_000) as u16;
    let next = || start + TRIED.fetch_add(1, Ordering::Relaxed);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next)
        .take(1_000)
        .find(is_free)
        .expect("a port is free")
}

/// A connection through `openssl s_client`.
pub struct Tls {
    input: ChildStdin,
    output: ChildStdout,
    _process: Running,
}

impl Tls {
    /// Connects to this name at this address, and checks it against this certificate.
    pub fn connect(address: SocketAddr, name: &str, certificate: &Path) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error"])
            .args(["-servername", name, "-verify_hostname", name])
            .arg("-connect")
            .arg(address.to_string())
            .arg("-CAfile")
            .arg(certificate)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        Tls {
            input: child.stdin.take().expect("the stream is piped"),
            output: child.stdout.take().expect("the stream is piped"),
            _process: Running(child),
        }
    }
}

impl Read for Tls {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.output.read(bytes)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

fn say(socket: &mut WebSocket<Tls>, message: &Value) {
    socket
        .send(Message::text(message.to_string()))
        .expect("the server reads");
}

fn hear(socket: &mut WebSocket<Tls>) -> Value {
    let message = socket.read().expect("the server sends a frame");
    serde_json::from_str(message.to_text().expect("the frame is text")).expect("the frame is JSON")
}

fn check_admits_with_token(name: &str) {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let mut server = Server::start(&["--state-dir", state.path()]);
    let proxy = Proxy::start(name, &server);
    let bearer = format!("Bearer {ann}");
    let protocols = format!("claude-socket, bearer.{ann}");
    let page = ("origin", "https://chat.example.org");
    let ways: [(&str, Vec<(&'static str, &str)>); 3] = [
        ("/?session=s1", vec![("authorization", &*bearer)]),
        (&format!("/?session=s1&token={ann}"), vec![page]),
        (
            "/?session=s1",
            vec![("sec-websocket-protocol", &*protocols), page],
        ),
    ];
    for (id, (path, headers)) in ["a1", "a2", "a3"].iter().zip(ways) {
        let mut socket = proxy
            .websocket(path, &headers)
            .expect("the proxy admits a token");
        say(
            &mut socket,
            &json!({ "type": "message", "content": "through TLS", "id": id }),
        );
        let heard = server.next_message();
        assert_eq!(
            (&heard["content"], &heard["meta"]["user"]),
            (&json!("through TLS"), &json!("ann"))
        );
        assert_eq!(hear(&mut socket)["type"], "delivery");
        server.call("reply", &json!({ "chat_id": "s1", "text": "and back" }));
        assert_eq!(hear(&mut socket)["content"], "and back");
        assert_eq!(hear(&mut socket)["state"], "answered");
    }
    assert_eq!(proxy.websocket("/", &[]).err(), Some(401));
    assert_eq!(proxy.websocket("/?token=wrong", &[page]).err(), Some(401));
    let (status, answer) = proxy.get("/healthz", "");
    assert_eq!(status, 401, "{answer}");
    let (status, answer) = proxy.get("/healthz", &format!("Authorization: {bearer}\r\n"));
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\"status\":\"ok\""), "{answer}");
}

/// Without a token everything that comes through a proxy is refused.
fn check_refuses_without_token(name: &str) {
    let server = Server::start(&[]);
    let proxy = Proxy::start(name, &server);
    let (status, answer) = proxy.get("/healthz", "");
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("through a proxy"), "{answer}");
    assert_eq!(proxy.websocket("/", &[]).err(), Some(403));
    let page = ("origin", "http://localhost");
    assert_eq!(proxy.websocket("/", &[page]).err(), Some(403));
}

#[test]
fn caddy_passes_tokens_on_and_is_refused_without() {
    check_admits_with_token("caddy");
    check_refuses_without_token("caddy");
}

#[test]
fn nginx_passes_tokens_on_and_is_refused_without() {
    check_admits_with_token("nginx");
    check_refuses_without_token("nginx");
}
