//! The processes that have started this one, up to Claude Code: its parent, or behind a wrapper
//! such as `npx` or `sudo` a process further up.

use std::path::Path;

use rustix::process::Pid;

/// The most processes that are looked at, so that the search ends also if ids are reused meanwhile.
const MAX_DEPTH: usize = 64;
/// What runs Claude Code if it is not a program of its own.
const INTERPRETERS: [&str; 3] = ["node", "bun", "deno"];

/// A process of this machine.
#[derive(Debug)]
pub struct Process {
    pub pid: Pid,
    /// `None` if it is the first process, or not visible from here.
    parent: Option<Pid>,
    /// When it started, as the system writes it. It tells two processes with the same id apart.
    start: String,
    /// The name of the program.
    name: String,
    arguments: Vec<String>,
}

/// Returns the nearest process from this one upwards that is Claude Code. A process that this user
/// may not see ends the search.
pub fn find_claude_code(from: Option<Pid>) -> Option<Process> {
    let mut next = from;
    for _ in 0..MAX_DEPTH {
        let process = Process::read(next?)?;
        if process.is_claude_code() {
            return Some(process);
        }
        next = process.parent;
    }
    None
}

impl Process {
    /// Returns `true` if it still runs. The id alone may be another process's by now.
    pub fn is_running(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.start == self.start)
    }

    /// Returns `true` if it is Claude Code: a program called `claude`, a version of it where its
    /// installer puts them, or an interpreter that runs its npm package.
    fn is_claude_code(&self) -> bool {
        let (program, arguments) = match self.arguments.split_first() {
            Some((program, arguments)) => (program.as_str(), arguments),
            None => (self.name.as_str(), &[] as &[String]),
        };
        let names = [&self.name, file_name(program)];
        if names.contains(&"claude") || has_folders(program, &["claude", "versions"]) {
            return true;
        }
        let mut operands = arguments.iter().filter(|text| !text.starts_with('-'));
        let is_interpreter = names.iter().any(|name| INTERPRETERS.contains(name));
        is_interpreter
            && operands.next().is_some_and(|script| {
                file_name(script) == "claude" || has_folders(script, &["claude-code"])
            })
    }
}

fn file_name(path: &str) -> &str {
    let name = Path::new(path).file_name();
    name.and_then(|name| name.to_str()).unwrap_or_default()
}

/// Returns `true` if a file is below these folders, of which each is in the one before.
fn has_folders(path: &str, folders: &[&str]) -> bool {
    let all: Vec<_> = path.split('/').collect();
    let above = all.split_last().map_or(&[] as &[_], |(_, above)| above);
    above.windows(folders.len()).any(|part| part == folders)
}

#[cfg(target_os = "linux")]
impl Process {
    /// Returns the process with this id from `/proc` (proc(5)); `None` if there is none.
    fn read(pid: Pid) -> Option<Self> {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
        let stat = read("stat")?;
        let arguments = read("cmdline").unwrap_or_default();
        let arguments = arguments.split(|byte| *byte == 0);
        let arguments = arguments.filter(|text| !text.is_empty()).map(text_of);
        Self::parse_stat(pid, &text_of(&stat), arguments.collect())
    }

    fn parse_stat(pid: Pid, stat: &str, arguments: Vec<String>) -> Option<Self> {
        // The name may have spaces and parentheses itself.
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
        // The first of them is field 3.
        let fields: Vec<_> = fields.split_whitespace().collect();
        let [state, parent] = fields.first_chunk()?;
        if ["Z", "X"].contains(state) {
            return None;
        }
        Some(Self {
            pid,
            parent: Pid::from_raw(parent.parse().ok()?),
            start: (*fields.get(19)?).to_owned(),
            name: name.to_owned(),
            arguments,
        })
    }
}

#[cfg(target_os = "linux")]
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(not(target_os = "linux"))]
impl Process {
    fn read(pid: Pid) -> Option<Self> {
        Self::ask_ps(pid)
    }
}

#[cfg(any(test, not(target_os = "linux")))]
impl Process {
    /// Returns the process with this id from ps(1), which takes some milliseconds; `None` if there
    /// is none. Arguments with spaces are taken apart.
    fn ask_ps(pid: Pid) -> Option<Self> {
        let output = std::process::Command::new("ps")
            .args([
                "-ww", "-o", "ppid=", "-o", "stat=", "-o", "lstart=", "-o", "args=", "-p",
            ])
            .arg(pid.to_string())
            .env("LC_ALL", "C")
            .output();
        Self::parse_ps(pid, &String::from_utf8_lossy(&output.ok()?.stdout))
    }

    fn parse_ps(pid: Pid, line: &str) -> Option<Self> {
        /// The words of a time such as `Wed Nov 25 23:17:09 2026`.
        const TIME: usize = 5;
        let words: Vec<_> = line.split_whitespace().collect();
        let ([parent, state], rest) = words.split_first_chunk()?;
        if state.starts_with('Z') || rest.len() < TIME {
            return None;
        }
        let (start, arguments) = rest.split_at(TIME);
        Some(Self {
            pid,
            parent: Pid::from_raw(parent.parse().ok()?),
            start: start.join(" "),
            name: file_name(arguments.first()?).to_owned(),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpid, getppid};

    use super::*;

    fn process(name: &str, arguments: &[&str]) -> Process {
        Process {
            pid: getpid(),
            parent: None,
            start: String::new(),
            name: name.to_owned(),
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    #[rustfmt::skip]
    #[test]
    fn claude_code_is_known_however_it_was_installed() {
        let yes: [(&str, &[&str]); 8] = [
            ("claude", &["claude", "--channels", "x"]),
            ("claude", &[]),
            ("2.1.330", &["/home/ann/.local/share/claude/versions/2.1.330"]),
            ("node", &["claude"]),
            ("node", &["node", "/usr/local/bin/claude"]),
            ("node", &["node", "--no-warnings", "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js"]),
            ("MainThread", &["/usr/bin/node", "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js"]),
            ("bun", &["bun", "/home/ann/.bun/bin/claude"]),
        ];
        let no: [(&str, &[&str]); 9] = [
            ("sh", &["sh", "-c", "claude"]),
            ("claude-socket", &["claude-socket"]),
            ("node", &["node", "/opt/app/server.js", "claude"]),
            ("node", &["node", "/home/ann/claude-code"]),
            ("node", &["node"]),
            ("vim", &["vim", "/home/ann/claude-code/notes"]),
            ("bash", &["bash", "/home/ann/.claude/plugins/claude-socket/bin/claude-socket"]),
            ("2.1.330", &["/opt/versions/2.1.330"]),
            ("", &[]),
        ];
        for (name, arguments) in yes {
            assert!(process(name, arguments).is_claude_code(), "{name} {arguments:?}");
        }
        for (name, arguments) in no {
            assert!(!process(name, arguments).is_claude_code(), "{name} {arguments:?}");
        }
    }

    #[test]
    fn process_is_told_from_a_later_one_with_its_id() {
        let this = Process::read(getpid()).expect("this process runs");
        assert!(this.is_running());
        let earlier = Process {
            start: "0".to_owned(),
            ..this
        };
        assert!(!earlier.is_running());
    }

    #[test]
    fn ps_shows_this_process_and_its_parent() {
        let this = Process::ask_ps(getpid()).expect("this process runs");
        assert_eq!(this.parent, getppid());
        let program = std::env::args().next().unwrap_or_default();
        let program = program.split_whitespace().next();
        assert_eq!(this.arguments.first().map(String::as_str), program);
        let parent = getppid().expect("this process has a parent");
        let parent = Process::ask_ps(parent).expect("the parent runs");
        assert!(!parent.name.is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn odd_name_is_read_from_stat() {
        let fields = "S 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        let stat = |fields: &str| format!("9 (a) (b c) {fields}");
        let read = |fields: &str| Process::parse_stat(getpid(), &stat(fields), Vec::new());
        let process = read(fields).expect("the line is whole");
        assert_eq!(process.name, "a) (b c");
        assert_eq!(process.parent, Pid::from_raw(7));
        assert_eq!(process.start, "4711");
        assert!(read("S 7").is_none());
        assert!(read(&fields.replacen('S', "Z", 1)).is_none());
    }
}
