//! Tells Claude when this machine gets hot or busy, and prints what Claude answers.
//!
//! A service for a Raspberry Pi, or any Linux machine: `sensor.service` beside this file
//! runs it under systemd. `README.md` says how to install both.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use clap::Parser;
use claude_socket_client::protocol::ServerMessage;
use claude_socket_client::{Client, Event, Options};

/// Tells Claude when this machine gets hot or busy, and prints what Claude answers. The token
/// is taken from SENSOR_TOKEN, or from the credential "token" that systemd gives.
#[derive(Parser)]
struct Settings {
    /// Where the server is
    #[arg(long, default_value = "ws://127.0.0.1:3100")]
    url: String,
    /// The session to talk in, which is also what this machine is called
    #[arg(long, default_value = "sensor")]
    session: String,
    /// The temperature, in °C, above which it is hot, and the one below which it no longer is
    #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"], default_values_t = [65.0, 70.0])]
    hot: Vec<f64>,
    /// The same for the load
    #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"], default_values_t = [2.0, 4.0])]
    busy: Vec<f64>,
    /// How often to look
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    every: Duration,
    /// The time from one message to the next, at least
    #[arg(long, default_value = "1m", value_parser = humantime::parse_duration)]
    pause: Duration,
    /// A file that gets 1 when Claude answers "on", and 0 for "off"
    #[arg(long)]
    switch: Option<PathBuf>,
    /// The folder in which proc and sys are
    #[arg(long, default_value = "/")]
    root: PathBuf,
}

fn main() {
    if let Err(error) = run(&Settings::parse()) {
        eprintln!("sensor: {error}");
        std::process::exit(1);
    }
}

fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let systemd = Systemd::find()?;
    let mut alarm = Alarm::new(settings.pause, &settings.hot, &settings.busy);
    let client = Client::connect(Options {
        session: settings.session.clone(),
        user: settings.session.clone(),
        token: token()?,
        ..Options::new(&settings.url)
    })?;
    let every = systemd.interval(settings.every);
    let mut next_measurement = Instant::now();
    let mut is_ready = false;
    loop {
        if Instant::now() >= next_measurement {
            next_measurement = Instant::now() + every;
            let values = measure(&settings.root)?;
            if let Some(states) = alarm.update(Instant::now(), &values) {
                let mut text = format!("{}: {states}.", settings.session);
                if settings.switch.is_some() {
                    text += " Answer on or off to switch the fan.";
                }
                // Without a connection it waits. Claude gets it once.
                client.send(text);
            }
            systemd.notify(if is_ready { "WATCHDOG=1" } else { "READY=1" });
            is_ready = true;
        }
        match client.events().recv_deadline(next_measurement) {
            Ok(Event::Message(message)) => handle_message(settings, &systemd, message)?,
            Ok(Event::Disconnected {
                reason, retry_in, ..
            }) => {
                eprintln!("{}: {reason}", settings.url);
                systemd.notify(&format!("STATUS={}", reason.replace('\n', " ")));
                if retry_in.is_none() {
                    return Err("the server does not let this sensor in".into());
                }
            }
            // A refusal, whose sentence is the reason of the disconnect that follows.
            Ok(_) => {}
            Err(error) if error.is_timeout() => {}
            Err(_) => return Err("the connection has ended".into()),
        }
    }
}

/// Returns the token, if there is one.
fn token() -> io::Result<Option<String>> {
    if let Ok(token) = env::var("SENSOR_TOKEN") {
        return Ok(Some(token));
    }
    let Some(folder) = env::var_os("CREDENTIALS_DIRECTORY") else {
        return Ok(None);
    };
    let token = fs::read_to_string(Path::new(&folder).join("token"))?;
    Ok(Some(token.trim().to_owned()))
}

fn handle_message(
    settings: &Settings,
    systemd: &Systemd,
    message: ServerMessage,
) -> io::Result<()> {
    match message {
        ServerMessage::Welcome { .. } => systemd.notify("STATUS=connected"),
        ServerMessage::Error { message, .. } => eprintln!("{}: {message}", settings.url),
        ServerMessage::Reply { content, .. } => {
            println!("{content}");
            if let (Some(file), Some(on)) = (&settings.switch, decision(&content)) {
                fs::write(file, if on { "1" } else { "0" })?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Returns `true` for "on" and `false` for "off", if just one of these words is in the answer.
fn decision(answer: &str) -> Option<bool> {
    let answer = answer.to_lowercase();
    let has = |wanted: &str| {
        answer
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| word == wanted)
    };
    match (has("on"), has("off")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

// ---- Measuring ----

const TEMPERATURE: &str = "temperature";
const LOAD: &str = "load";

/// Measures the load of the last minute, and the hottest of the thermal zones in °C, if there are any.
fn measure(root: &Path) -> io::Result<BTreeMap<&'static str, f64>> {
    let path = root.join("proc/loadavg");
    let wrong = |why: String| io::Error::other(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    let load = text.split(' ').next().and_then(|load| load.parse().ok());
    let load = load.ok_or_else(|| wrong("this is not the load".to_owned()))?;
    let mut values = BTreeMap::from([(LOAD, load)]);
    let Ok(zones) = fs::read_dir(root.join("sys/class/thermal")) else {
        return Ok(values);
    };
    // A zone whose sensor is switched off cannot be read.
    let read = |zone: PathBuf| -> Option<f64> {
        let millidegrees = fs::read_to_string(zone.join("temp")).ok()?;
        Some(millidegrees.trim().parse::<f64>().ok()? / 1000.0)
    };
    let zones = zones.flatten().map(|zone| zone.path());
    let zones = zones.filter(|zone| zone.to_string_lossy().contains("thermal_zone"));
    if let Some(hottest) = zones.filter_map(read).reduce(f64::max) {
        values.insert(TEMPERATURE, hottest);
    }
    Ok(values)
}

/// Decides when Claude is told.
struct Alarm {
    pause: Duration,
    /// Low and high: above the high one a value is too high, until it is below the low one.
    thresholds: BTreeMap<&'static str, [f64; 2]>,
    is_high: BTreeMap<&'static str, bool>,
    reported: BTreeMap<&'static str, bool>,
    reported_at: Option<Instant>,
}

impl Alarm {
    fn new(pause: Duration, hot: &[f64], busy: &[f64]) -> Self {
        let pair = |thresholds: &[f64]| [thresholds[0], thresholds[1]];
        Self {
            pause,
            thresholds: BTreeMap::from([(TEMPERATURE, pair(hot)), (LOAD, pair(busy))]),
            is_high: BTreeMap::new(),
            reported: BTreeMap::new(),
            reported_at: None,
        }
    }

    /// Takes measured values. Returns the text for Claude if a state differs from the reported one
    /// and the pause is over.
    fn update(&mut self, now: Instant, values: &BTreeMap<&'static str, f64>) -> Option<String> {
        for (name, value) in values {
            let [low, high] = self.thresholds[name];
            let is_high = self.is_high.entry(name).or_default();
            *is_high = *value > if *is_high { low } else { high };
        }
        let reported = |name| self.reported.get(name).copied().unwrap_or_default();
        let is_news = self.is_high.iter().any(|(name, is)| *is != reported(*name));
        let is_time = self.reported_at.is_none_or(|at| now >= at + self.pause);
        if !is_news || !is_time {
            return None;
        }
        self.reported.clone_from(&self.is_high);
        self.reported_at = Some(now);
        let mut states = String::new();
        for (name, value) in values {
            let comma = if states.is_empty() { "" } else { ", " };
            let unit = if *name == TEMPERATURE { " °C" } else { "" };
            let state = if self.is_high[name] {
                "too high"
            } else {
                "all right"
            };
            // Writing to a string cannot fail.
            let _ = write!(states, "{comma}{name} {value}{unit} ({state})");
        }
        Some(states)
    }
}

// ---- systemd ----

/// The service manager, if it wants to be notified: sd_notify(3).
struct Systemd {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Systemd {
    fn find() -> io::Result<Self> {
        let socket = match env::var("NOTIFY_SOCKET") {
            Ok(name) => {
                let socket = UnixDatagram::unbound()?;
                connect(&socket, &name)?;
                Some(socket)
            }
            Err(_) => None,
        };
        let watchdog = env::var("WATCHDOG_USEC").ok();
        let watchdog = watchdog.and_then(|microseconds| microseconds.parse().ok());
        Ok(Self {
            socket,
            watchdog: watchdog.map(Duration::from_micros),
        })
    }

    /// Returns how often to measure: at least twice in the watchdog's time.
    fn interval(&self, every: Duration) -> Duration {
        self.watchdog
            .map_or(every, |patience| every.min(patience / 2))
    }

    fn notify(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // If it doesn't listen any more, nobody needs to know.
            let _ = socket.send(state.as_bytes());
        }
    }
}

/// Connects to a path or, with `@` in front, to a name in Linux's abstract namespace.
fn connect(socket: &UnixDatagram, name: &str) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        return socket.connect_addr(&SocketAddr::from_abstract_name(name)?);
    }
    socket.connect(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays temperatures, one each ten seconds, and returns when something was reported.
    fn reports(temperatures: &[f64]) -> Vec<(usize, String)> {
        let start = Instant::now();
        let mut alarm = Alarm::new(Duration::from_secs(60), &[65.0, 70.0], &[2.0, 4.0]);
        let update = |(n, celsius): (usize, &f64)| {
            let now = start + Duration::from_secs(10) * u32::try_from(n).ok()?;
            let values = BTreeMap::from([(TEMPERATURE, *celsius)]);
            Some((n, alarm.update(now, &values)?))
        };
        temperatures.iter().enumerate().filter_map(update).collect()
    }

    #[test]
    fn value_between_thresholds_keeps_its_state() {
        let high = (1, "temperature 71 °C (too high)".to_owned());
        let low = (9, "temperature 64.5 °C (all right)".to_owned());
        let course = [
            69.0, 71.0, 69.0, 66.0, 71.0, 66.0, 68.0, 72.0, 65.5, 64.5, 69.0,
        ];
        assert_eq!(reports(&course), [high, low]);
    }

    #[test]
    fn reports_keep_their_pause() {
        let mut course = vec![50.0; 20];
        course[1] = 75.0;
        // All right again after ten seconds: reported when the minute is over.
        let when: Vec<usize> = reports(&course).into_iter().map(|(n, _)| n).collect();
        assert_eq!(when, [1, 7]);
        // Up and down in that minute, and in the end as it was reported: nothing.
        course[2..20].fill(75.0);
        course[4] = 50.0;
        let when: Vec<usize> = reports(&course).into_iter().map(|(n, _)| n).collect();
        assert_eq!(when, [1]);
    }

    #[test]
    fn decision_needs_exactly_one_word() {
        for (answer, expected) in [
            ("On.", Some(true)),
            ("Please switch it OFF!", Some(false)),
            ("on or off", None),
            ("only the office, once", None),
            ("", None),
        ] {
            assert_eq!(decision(answer), expected, "{answer}");
        }
    }

    #[test]
    fn load_is_measured() {
        assert!(measure(Path::new("/")).is_ok_and(|values| values.contains_key(LOAD)));
    }
}
