//! The guard: compares what was counted with what is recorded in a file, and says what became
//! worse.
//!
//! The file has a line `NAME: NUMBER UNIT` for each figure, and one with the compiler.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::counts::{self, Count};
use crate::server::Outcome;

/// By how much a figure may differ from the recorded one.
const TOLERANCE: f64 = 0.05;
/// How to record.
const RECORD: &str = "tests/guard --record";

/// Counts, and compares or records.
///
/// # Errors
/// If something can't be counted, or the file can't be read or written.
pub fn run(file: &Path, record: bool) -> Outcome<ExitCode> {
    let mut counts = vec![
        counts::size("claude-socket")?,
        counts::size("claude-socket-cli")?,
        counts::memory_of_connection()?,
    ];
    match counts::valgrind() {
        Ok(()) => counts.extend(counts::under_valgrind()?),
        Err(why) if record => return Err(format!("{why}, so nothing is recorded")),
        Err(why) => println!("{why}, so instructions and allocations are not counted."),
    }
    let compiler = compiler()?;
    if record {
        let written = fs::write(file, Recorded::text(&compiler, &counts));
        written.map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
        println!("{} has the figures now.", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let text = fs::read_to_string(file).map_err(|error| {
        format!(
            "{} cannot be read: {error}; {RECORD} writes it",
            file.display()
        )
    })?;
    Ok(Recorded::parse(&text)?.compare(&compiler, &counts))
}

/// What the file says.
struct Recorded {
    compiler: String,
    figures: BTreeMap<(String, String), f64>,
}

impl Recorded {
    fn text(compiler: &str, counts: &[Count]) -> String {
        let mut text = format!(
            "# What {RECORD} has counted. tests/guard fails when one of these grows by more than {:.0}%.\n\
             compiler: {compiler}\n",
            TOLERANCE * 100.0
        );
        for Count { name, value, unit } in counts {
            text.push_str(&format!("{name}: {} {unit}\n", number(*value)));
        }
        text
    }

    fn parse(text: &str) -> Outcome<Self> {
        let mut recorded = Self {
            compiler: String::new(),
            figures: BTreeMap::new(),
        };
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        {
            let wrong =
                || format!("«{line}» should be \"NAME: NUMBER UNIT\"; {RECORD} writes it anew");
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

    /// Prints each figure beside the recorded one, and what follows from them.
    fn compare(&self, compiler: &str, counts: &[Count]) -> ExitCode {
        let same_compiler = compiler == self.compiler;
        let (mut worse, mut better, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for Count { name, value, unit } in counts {
            let Some(&before) = self.figures.get(&(name.clone(), (*unit).to_owned())) else {
                println!("{name:26}{:>12} {unit:14}not recorded", number(*value));
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
                "{name:26}{:>12} {unit:14}{:+.1}%",
                number(*value),
                change * 100.0
            );
            // What the compiler makes of the code isn't the code's fault.
            let depends = *unit == "instructions" || name == "claude-socket";
            match change {
                TOLERANCE.. if same_compiler || !depends => worse.push(changed),
                change if change < -TOLERANCE => better.push(changed),
                _ => {}
            }
        }
        if !same_compiler {
            println!(
                "Recorded with another compiler ({}, this is {compiler}), so instructions and the program's size \
                 are shown and cannot fail. With a new compiler, record with it from the commit before.",
                self.compiler
            );
        }
        if !better.is_empty() {
            println!(
                "Better than recorded: {}. Keep it so with {RECORD}.",
                better.join("; ")
            );
        }
        if worse.is_empty() && unknown.is_empty() {
            return ExitCode::SUCCESS;
        }
        if !worse.is_empty() {
            eprintln!("Worse than recorded: {}.", worse.join("; "));
        }
        eprintln!(
            "If that is how it has to be, record the figures anew with {RECORD}, and say why in the commit."
        );
        ExitCode::FAILURE
    }
}

fn number(value: f64) -> String {
    // Allocations are few, and a tenth of one is worth seeing.
    let digits = if value < 1_000.0 { 2 } else { 0 };
    format!("{value:.digits$}")
}

/// The compiler's version and what it compiles for.
fn compiler() -> Outcome<String> {
    let output = Command::new("rustc").arg("-vV").output();
    let output =
        output.map_err(|error| format!("rustc cannot be asked for its version ({error})"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let version = text.lines().next().unwrap_or_default();
    Ok(format!("{version} for {}", host.unwrap_or_default()))
}
