//! The guard: compares counted figures with those recorded in a file. It times nothing, so its
//! figures don't depend on how busy the machine is.
//!
//! The file has a line `NAME: NUMBER UNIT` for each figure, and one with the compiler. A figure that
//! was promised has a most beside that, which no recording raises.

mod counts;
mod valgrind;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use self::counts::Count;
use crate::server::Result;

/// The part by which a figure may exceed the recorded one.
const TOLERANCE: f64 = 0.05;
/// The longest that one run may take; then its server is killed.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);
/// The characters of the column with the names.
const WIDTH: usize = 32;
/// The command that records.
const RECORD: &str = "tests/guard --record";

/// Counts, then compares with `file` or records into it.
pub fn run(file: &Path, static_programs: Option<&Path>, record: bool) -> Result<ExitCode> {
    let mut counts = vec![
        counts::program_size("claude-socket")?,
        counts::program_size("claude-socket-cli")?,
        counts::connection_memory()?,
        counts::disk_bytes()?,
    ];
    match static_programs {
        Some(folder) => counts.extend(counts::static_programs(folder)?),
        None => println!("No static programs were named, so they are not counted."),
    }
    match valgrind::check() {
        Ok(()) => counts.extend(valgrind::count()?),
        Err(why) if record => return Err(format!("{why}, so nothing is recorded")),
        Err(why) => println!("{why}, so instructions and allocations are not counted."),
    }
    let compiler = compiler()?;
    if record {
        promises(&counts)?;
        let written = fs::write(file, Recorded::text(&compiler, &counts));
        written.map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
        println!("{}: figures recorded.", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let text = fs::read_to_string(file).map_err(|error| {
        format!(
            "{} cannot be read: {error}; run {RECORD} to write it",
            file.display()
        )
    })?;
    let compared = Recorded::parse(&text)?.compare(&compiler, &counts);
    promises(&counts).map(|()| compared)
}

/// Returns an error with the figures that are more than was promised.
fn promises(counts: &[Count]) -> Result<()> {
    let broken: Vec<String> = counts.iter().filter_map(Count::broken_promise).collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!("More than promised: {}.", broken.join("; ")))
}

/// The content of the file.
struct Recorded {
    compiler: String,
    /// The figures by name and unit.
    figures: BTreeMap<(String, String), f64>,
}

impl Recorded {
    fn text(compiler: &str, counts: &[Count]) -> String {
        let mut text = format!(
            "# Counted by {RECORD}. tests/guard fails when one of these grows by more than {:.0}%.\n\
             compiler: {compiler}\n",
            TOLERANCE * 100.0
        );
        for Count {
            name, value, unit, ..
        } in counts.iter().filter(|count| count.is_recorded)
        {
            text.push_str(&format!("{name}: {} {unit}\n", number(*value)));
        }
        text
    }

    fn parse(text: &str) -> Result<Self> {
        let mut recorded = Self {
            compiler: String::new(),
            figures: BTreeMap::new(),
        };
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        {
            let wrong = || {
                format!(
                    "`{line}` is not \"NAME: NUMBER UNIT\"; run {RECORD} to write the file anew"
                )
            };
            let (name, rest) = line.split_once(": ").ok_or_else(wrong)?;
            if name == "compiler" {
                recorded.compiler = rest.to_owned();
                continue;
            }
            let (value, unit) = rest.split_once(' ').ok_or_else(wrong)?;
            let value: f64 = value.parse().map_err(|_| wrong())?;
            recorded
                .figures
                .insert((name.to_owned(), unit.to_owned()), value);
        }
        Ok(recorded)
    }

    /// Prints each figure and its change. Fails if one is worse than [`TOLERANCE`] allows or isn't
    /// recorded.
    fn compare(&self, compiler: &str, counts: &[Count]) -> ExitCode {
        let same_compiler = compiler == self.compiler;
        let (mut worse, mut better, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for count in counts {
            let Count {
                name, value, unit, ..
            } = count;
            if !count.is_recorded {
                let most = count.most.map(number).unwrap_or_default();
                println!(
                    "{name:WIDTH$}{:>12} {unit:14}at most {most}",
                    number(*value)
                );
                continue;
            }
            let Some(&before) = self.figures.get(&(name.clone(), (*unit).to_owned())) else {
                println!("{name:WIDTH$}{:>12} {unit:14}not recorded", number(*value));
                unknown.push(name);
                continue;
            };
            let change = value / before - 1.0;
            let changed = format!(
                "{name}: {:+.1}% {unit}, {} instead of {}",
                change * 100.0,
                number(*value),
                number(before)
            );
            println!(
                "{name:WIDTH$}{:>12} {unit:14}{:+.1}%",
                number(*value),
                change * 100.0
            );
            // Another compiler may change these although the code is the same.
            let depends_on_compiler = *unit == "instructions" || name.starts_with("claude-socket");
            match change {
                TOLERANCE.. if same_compiler || !depends_on_compiler => worse.push(changed),
                change if change < -TOLERANCE => better.push(changed),
                _ => {}
            }
        }
        if !same_compiler {
            println!(
                "Recorded with another compiler ({}, this is {compiler}), so instructions and the programs' sizes \
                 are only shown; to compare them, record with this compiler from the commit before.",
                self.compiler
            );
        }
        if !better.is_empty() {
            println!(
                "Better than recorded: {}; run {RECORD} to keep it.",
                better.join("; ")
            );
        }
        if worse.is_empty() && unknown.is_empty() {
            return ExitCode::SUCCESS;
        }
        if !worse.is_empty() {
            eprintln!("Worse than recorded: {}.", worse.join("; "));
        }
        eprintln!("If this is intended, run {RECORD}, and say why in the commit.");
        ExitCode::FAILURE
    }
}

fn number(value: f64) -> String {
    // Allocations are few: a message has about 3, so a tenth of one counts.
    let digits = if value < 1_000.0 { 2 } else { 0 };
    format!("{value:.digits$}")
}

/// Returns the compiler's version and its target.
fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output();
    let output =
        output.map_err(|error| format!("rustc cannot be asked for its version ({error})"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let version = text.lines().next().unwrap_or_default();
    Ok(format!("{version} for {}", host.unwrap_or_default()))
}
