//! `claude-socket open`: the chat page in the browser, or as a QR code for a phone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use clap::Args;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use uuid::Uuid;

use super::style::Colors;
use super::{TOKEN_HELP, TrustArgs, name};
use crate::commands::{Error, exec_cli};
use crate::config::{self, AddressArgs};
use crate::protocol::DEFAULT_SESSION;

/// Opens a page in the browser.
const OPENER: &str = if cfg!(target_os = "macos") {
    "open"
} else {
    "xdg-open"
};
/// How long a browser that was started may take to read a file.
const BROWSER_READS: Duration = Duration::from_secs(3);

#[derive(Args, Clone, Debug)]
#[command(after_help = TOKEN_HELP)]
pub struct OpenArgs {
    #[command(flatten)]
    server: AddressArgs,
    /// The chat to take part in
    #[arg(long, value_name = "SESSION", value_parser = name)]
    pub session: Option<String>,
    /// Print the address as a QR code, for a phone, with the token in it if there is one
    #[arg(long)]
    pub qr: bool,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Opens the page or prints the code.
///
/// # Errors
/// If there is no server, nothing can be printed, or no browser can be started.
pub fn run(args: &OpenArgs) -> Result<ExitCode, Error> {
    let mut address = args.server.address();
    args.trust.check(address)?;
    if args.qr && args.server.host.is_unspecified() {
        address.set_ip(own_address(address).unwrap_or(address.ip()));
    }
    let token = config::env_token();
    let url = page(address, args.session.as_deref(), token.as_deref());
    if args.qr {
        return show(&url, address);
    }
    match &token {
        None => start(&url)?,
        Some(_) => start_privately(&url)?,
    }
    let plain = page(address, args.session.as_deref(), None);
    writeln!(io::stdout(), "{plain}")?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the address of the page. The token is in the fragment, which browsers send to nobody.
fn page(address: SocketAddr, session: Option<&str>, token: Option<&str>) -> String {
    let encoded = |name: &str, value: &str| {
        form_urlencoded::Serializer::new(String::new())
            .append_pair(name, value)
            .finish()
    };
    let session = session.filter(|session| *session != DEFAULT_SESSION);
    let query = session.map(|session| format!("?{}", encoded("session", session)));
    let fragment = token.map(|token| format!("#{}", encoded("token", token)));
    let (query, fragment) = (query.unwrap_or_default(), fragment.unwrap_or_default());
    format!("http://{address}/{query}{fragment}")
}

fn show(url: &str, address: SocketAddr) -> Result<ExitCode, Error> {
    let code = match QrCode::with_error_correction_level(url, EcLevel::L) {
        Ok(code) => code,
        Err(error) => {
            return Err(Error::refused(format_args!(
                "the address is too long for a QR code ({error}); take a shorter token"
            )));
        }
    };
    writeln!(io::stdout(), "{}\n{url}", drawn(&code, Colors::of_stdout()))?;
    if address.ip().is_loopback() {
        eprintln!(
            "claude-socket: a phone cannot reach {}; make a token, and start the server with --host and this machine's address in a private network",
            address.ip()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the code, dark on light as scanners want it. Without colors the terminal is assumed to
/// be dark, and the light modules are drawn.
fn drawn(code: &QrCode, colors: Colors) -> String {
    let mut renderer = code.render::<Dense1x2>();
    if !colors.is_on() {
        let renderer = renderer.dark_color(Dense1x2::Light);
        return renderer.light_color(Dense1x2::Dark).build();
    }
    let code = renderer.build();
    let lines = code
        .lines()
        .map(|line| format!("\x1b[30;107m{line}\x1b[0m"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns this machine's address in its network. Nothing is sent to find it.
fn own_address(server: SocketAddr) -> Option<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849), which are never on this machine's links.
    let (any, other) = match server {
        SocketAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        SocketAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(other).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Opens an address or a file in the browser.
fn start(what: &str) -> io::Result<()> {
    let mut opener = Command::new(OPENER);
    exec_cli::forget_parent(&mut opener);
    let started = opener
        .arg(what)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let hint = "open the address yourself, or on a phone by claude-socket open --qr";
    match started {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(io::Error::other(format!(
            "{OPENER} has failed ({status}); {hint}"
        ))),
        Err(error) => Err(io::Error::other(format!(
            "{OPENER} cannot be started ({error}); {hint}"
        ))),
    }
}

/// Opens an address in the browser by a file that leads there and that only this user can read:
/// everyone on the machine can see the arguments of every process.
fn start_privately(url: &str) -> io::Result<()> {
    let path: PathBuf = std::env::temp_dir().join(format!("claude-socket-{}.html", Uuid::new_v4()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    // The encoded address has no quotes and no angle brackets.
    let page = format!("<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={url}\">\n");
    let started = file
        .write_all(page.as_bytes())
        .and_then(|()| start(&path.to_string_lossy()));
    if started.is_ok() {
        thread::sleep(BROWSER_READS);
    }
    fs::remove_file(&path)?;
    started
}
