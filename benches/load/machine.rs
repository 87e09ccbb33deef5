//! The machine, date and command of a report.

use std::fs;
use std::time::SystemTime;

use serde::Serialize;

/// The conditions that the figures hold for.
#[derive(Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    memory: String,
    date: String,
    version: &'static str,
    command: String,
}

impl Machine {
    /// Reads them from `/proc`.
    pub fn detect() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
        };
        // /proc/cpuinfo has no "model name" on ARM.
        let cpu = field(&read("/proc/cpuinfo"), "model name");
        let arguments: Vec<String> = std::env::args()
            .skip(1)
            .filter(|argument| argument != "--bench")
            .collect();
        Self {
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            memory: field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            version: env!("CARGO_PKG_VERSION"),
            command: format!("cargo bench -- {}", shell_quote(&arguments))
                .trim_end()
                .trim_end_matches(" --")
                .into(),
        }
    }

    /// Returns three lines for people.
    pub fn text(&self) -> String {
        let Self {
            cpu,
            cores,
            kernel,
            memory,
            date,
            version,
            command,
        } = self;
        format!(
            "claude-socket {version}, {date}\n{cpu}, {cores} cores, {memory}, {kernel}\n{command}\n"
        )
    }
}

/// Returns the arguments, quoted for a shell.
fn shell_quote(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
        if !argument.is_empty() && argument.chars().all(plain) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
