//! Who was there, who was turned away, and who decided what: in the log, and as JSON
//! lines in a file of its own if one is named. Never what was said.
//!
//! Lines go through a bounded channel to a thread that writes them, as those of the
//! [log](crate::logging) do: nobody waits for a disk.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{error, info};
use serde::Serialize;

use crate::protocol::{ConnId, Grant, SessionId};

/// How many lines wait to be written; further ones are lost, and counted.
const LINES_WAITING: usize = 1024;
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(100);

/// Something to be remembered.
#[derive(Clone, Debug)]
pub enum Record<'a> {
    /// A client has connected.
    Connected {
        /// Who.
        client: ConnId,
        /// From where.
        from: SocketAddr,
        /// Into which session.
        session: &'a SessionId,
        /// As whom.
        grant: &'a Grant,
    },
    /// It has gone.
    Disconnected {
        /// Who.
        client: ConnId,
        /// In a few words.
        why: &'a str,
    },
    /// Somebody was not let in.
    Refused {
        /// The connection.
        client: ConnId,
        /// From where.
        from: SocketAddr,
        /// The HTTP status; none for a connection that was cut.
        status: Option<u16>,
        /// The sentence that went with it.
        why: &'a str,
    },
    /// A client wanted what it may not do, for the first time.
    Forbidden {
        /// Who.
        client: ConnId,
        /// As whom.
        grant: &'a Grant,
        /// The sentence it got.
        why: &'a str,
    },
    /// A permission request was answered.
    Verdict {
        /// By which connection; none if by the server itself.
        client: Option<ConnId>,
        /// By whom.
        user: &'a str,
        /// About which tool.
        tool: &'a str,
        /// Which request.
        request_id: &'a str,
        /// The answer.
        allowed: bool,
    },
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected {
                client,
                from,
                session,
                grant,
            } => write!(
                f,
                "{client} from {from} is in session \"{session}\" as {grant}"
            ),
            Self::Disconnected { client, why } => write!(f, "{client} has gone: {why}"),
            Self::Refused {
                client,
                from,
                status: Some(status),
                why,
            } => write!(
                f,
                "{client} from {from} is refused: {status}, {}",
                why.escape_debug()
            ),
            Self::Refused {
                client, from, why, ..
            } => write!(f, "{client} from {from} is cut: {why}"),
            Self::Forbidden { client, grant, why } => {
                write!(f, "{client} is refused as {grant}: {}", why.escape_debug())
            }
            Self::Verdict {
                client,
                user,
                tool,
                request_id,
                allowed,
            } => {
                let place = client.map(|client| format!(" at {client}"));
                let word = if *allowed { "allowed" } else { "denied" };
                write!(
                    f,
                    "{user}{} {word} {} ({})",
                    place.unwrap_or_default(),
                    tool.escape_debug(),
                    request_id.escape_debug()
                )
            }
        }
    }
}

/// A line of the file. What a record has nothing to say about is left out.
#[derive(Default, Serialize)]
struct Line<'a> {
    ts: String,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<u64>,
}

impl<'a> Line<'a> {
    fn of(record: &Record<'a>) -> Self {
        let named = |event, client: ConnId| Self {
            event,
            client: Some(client.to_string()),
            ..Self::default()
        };
        match *record {
            Record::Connected {
                client,
                from,
                session,
                grant,
            } => Self {
                from: Some(from),
                session: Some(session.as_str()),
                ..named("connected", client).by(grant)
            },
            Record::Disconnected { client, why } => Self {
                why: Some(why),
                ..named("disconnected", client)
            },
            Record::Refused {
                client,
                from,
                status,
                why,
            } => Self {
                from: Some(from),
                status,
                why: Some(why),
                ..named("refused", client)
            },
            Record::Forbidden { client, grant, why } => Self {
                why: Some(why),
                ..named("forbidden", client).by(grant)
            },
            Record::Verdict {
                client,
                user,
                tool,
                request_id,
                allowed,
            } => Self {
                event: "verdict",
                client: client.map(|client| client.to_string()),
                user: Some(user),
                tool: Some(tool),
                request_id: Some(request_id),
                allowed: Some(allowed),
                ..Self::default()
            },
        }
    }

    fn by(self, grant: &'a Grant) -> Self {
        Self {
            user: grant.user.as_deref(),
            role: Some(grant.role.as_str()),
            ..self
        }
    }

    fn encode(mut self) -> Vec<u8> {
        self.ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = serde_json::to_vec(&self).expect("it is JSON");
        line.push(b'\n');
        line
    }
}

/// Where records go. Clones share the file.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    file: Option<Queue>,
}

#[derive(Clone, Debug)]
struct Queue {
    lines: Sender<Entry>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before is written when this is dropped.
    Flush(#[expect(dead_code, reason = "it is there to be dropped")] Sender<()>),
}

impl Audit {
    /// Opens the file, if one is named.
    ///
    /// # Errors
    /// If it cannot be opened, or the system has no thread left.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path);
        let file = file.map_err(|error| {
            let why = format!(
                "--audit (CLAUDE_SOCKET_AUDIT) cannot be {path:?}: it cannot be opened ({error}); name another file"
            );
            io::Error::new(error.kind(), why)
        })?;
        let (lines, receiver) = bounded(LINES_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            file,
            name: path.display().to_string(),
            lost: lost.clone(),
            fails: false,
        };
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&receiver))?;
        Ok(Self {
            file: Some(Queue { lines, lost }),
        })
    }

    /// Remembers something. Doesn't wait.
    pub fn record(&self, record: &Record<'_>) {
        info!("{record}");
        if let Some(queue) = &self.file {
            let line = Line::of(record).encode();
            if queue.lines.try_send(Entry::Line(line)).is_err() {
                queue.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits for the last lines, but not for long.
    pub fn finish(&self) {
        let Some(queue) = &self.file else {
            return;
        };
        let deadline = Instant::now() + LAST_LINES;
        let (flushed, flush) = bounded(0);
        if queue
            .lines
            .send_deadline(Entry::Flush(flushed), deadline)
            .is_ok()
        {
            let _ = flush.recv_deadline(deadline);
        }
    }
}

/// The thread that writes.
struct Writer {
    file: File,
    name: String,
    lost: Arc<AtomicU64>,
    /// The last line was not written, or not to its end.
    fails: bool,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Entry>) {
        for entry in lines {
            let Entry::Line(line) = entry else {
                continue;
            };
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let gap = Line {
                    event: "lost",
                    lines: Some(lost),
                    ..Line::default()
                };
                self.write(gap.encode(), lost);
            }
            self.write(line, 1);
        }
    }

    /// Writes a line that stands for so many.
    fn write(&mut self, mut line: Vec<u8>, stands_for: u64) {
        if self.fails {
            // What was begun before must not run into it.
            line.insert(0, b'\n');
        }
        match self.file.write_all(&line) {
            Ok(()) => self.fails = false,
            Err(error) => {
                self.lost.fetch_add(stands_for, Ordering::Relaxed);
                if !self.fails {
                    let name = &self.name;
                    error!(
                        "the audit file {name} cannot be written ({error}); what is missing in it will be counted there; make room, or name another file with CLAUDE_SOCKET_AUDIT"
                    );
                }
                self.fails = true;
            }
        }
    }
}
