//! A machine for the plugin's launcher: a home, a PATH with chosen tools only, a checkout with the
//! plugin, and a server with releases.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::releases::{Answer, Releases};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Every tool that the launcher may use to get a release.
pub const TOOLS: [&str; 11] = [
    "chmod",
    "curl",
    "find",
    "gzip",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sha256sum",
    "tar",
    "timeout",
];

/// A release for the machine that [`Machine::new`] makes.
pub const ASSET: &str = concat!(
    "claude-socket-",
    env!("CARGO_PKG_VERSION"),
    "-x86_64-linux.tar.gz"
);

/// A change that a case makes to a machine.
pub type Change = fn(&mut Machine);

pub struct Machine {
    /// A path with spaces.
    pub root: PathBuf,
    pub releases: Releases,
    /// The variables beside `HOME` and `PATH`.
    pub environment: Vec<(&'static str, String)>,
}

impl Machine {
    /// Returns a machine with the plugin and these tools. `uname` reports Linux on x86_64.
    pub fn new(tools: &[&str]) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("the machine {} {number}", std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let releases = Releases::start();
        let machine = Self {
            environment: vec![
                ("CLAUDE_PLUGIN_DATA", path_in(&root, "data")),
                (
                    "CLAUDE_SOCKET_RELEASES_URL",
                    format!("http://{}/d/", releases.address),
                ),
            ],
            root,
            releases,
        };
        for folder in ["home", "tools", "checkout", "elsewhere"] {
            fs::create_dir_all(machine.path(folder)).expect("the folder can be created");
        }
        fs::write(machine.path("checkout/Cargo.toml"), "").expect("the file can be written");
        let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/plugin");
        run(Command::new("cp")
            .arg("-R")
            .arg(plugin)
            .arg(machine.path("checkout")));
        for tool in tools {
            symlink(which(tool), machine.path("tools").join(tool))
                .expect("the link can be created");
        }
        machine.repository("");
        machine.set_uname("Linux", "x86_64");
        machine
    }

    /// Returns a machine that can download a release. The program in it prints `downloaded`.
    pub fn with_release(tools: &[&str]) -> Self {
        let machine = Self::new(tools);
        machine.stand_in("new", VERSION, "downloaded");
        machine.release(&machine.path("new"));
        machine
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    pub fn launcher(&self) -> PathBuf {
        self.path("checkout/plugin/bin/claude-socket")
    }

    /// Sets the repository in the plugin's manifest.
    pub fn repository(&self, address: &str) {
        let manifest = self.path("checkout/plugin/.claude-plugin/plugin.json");
        let text = fs::read_to_string(&manifest).expect("the manifest can be read");
        let with = |line: &str| match line.trim_start().split(':').next() {
            Some("\"repository\"") => format!("  \"repository\": \"{address}\",\n"),
            _ => format!("{line}\n"),
        };
        fs::write(manifest, text.lines().map(with).collect::<String>())
            .expect("the file can be written");
    }

    pub fn set_uname(&self, system: &str, machine: &str) {
        let script = format!("case $1 in -s) echo '{system}' ;; -m) echo '{machine}' ;; esac");
        self.script("tools/uname", &script);
    }

    pub fn without(&self, tools: &[&str]) {
        for tool in tools {
            fs::remove_file(self.path("tools").join(tool)).expect("the tool can be removed");
        }
    }

    pub fn set(&mut self, name: &'static str, value: String) {
        self.unset(name);
        self.environment.push((name, value));
    }

    pub fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| *known != name);
    }

    /// Writes a shell script that can be executed.
    pub fn script(&self, inside: &str, does: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("the folder can be created"))
            .expect("the folder can be created");
        // Written by another process: while this one has a file open for writing, so may a child of
        // another test for a moment, and then the file can't be executed.
        let script = format!("#!/bin/sh\n{does}\n");
        let write = "printf %s \"$0\" >\"$1\" && chmod 755 \"$1\"";
        run(Command::new("sh").args(["-c", write, &script]).arg(path));
    }

    /// Writes a program in the place of the server, which prints its name and its arguments.
    pub fn stand_in(&self, inside: &str, version: &str, name: &str) {
        let version =
            format!("[ \"$*\" != --version ] || {{ echo claude-socket {version}; exit; }}");
        self.script(inside, &format!("{version}\necho \"{name}:$*\""));
    }

    /// Serves this program as the release [`ASSET`], and returns the asset.
    pub fn release(&self, program: &Path) -> Vec<u8> {
        let folder = ASSET.trim_end_matches(".tar.gz");
        let inside = self.path("packed").join(folder);
        fs::create_dir_all(&inside).expect("the folder can be created");
        fs::copy(program, inside.join("claude-socket")).expect("the file can be copied");
        fs::write(inside.join("LICENSE"), "").expect("the file can be written");
        let archive = self.path("packed/archive");
        run(Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(self.path("packed"))
            .arg(folder));
        run(Command::new("gzip").arg("-1f").arg(&archive));
        let asset = fs::read(self.path("packed/archive.gz")).expect("the file can be written");
        self.serve(Answer::File(asset.clone()));
        self.add_checksum(&asset);
        asset
    }

    pub fn serve(&self, answer: Answer) {
        self.releases.put(&format!("/d/v{VERSION}/{ASSET}"), answer);
    }

    /// Writes the checksum of these bytes into `checksums.txt`, as that of [`ASSET`].
    pub fn add_checksum(&self, asset: &[u8]) {
        let file = self.path("asset");
        fs::write(&file, asset).expect("the file can be written");
        let sum =
            run(Command::new("sha256sum").stdin(File::open(file).expect("the file can be read")));
        let sum = sum.split(' ').next().expect("sha256sum prints a checksum");
        self.checksums(&format!(
            "# A comment.\n{sum}  {ASSET}\n{sum}00  {ASSET}.sig\n"
        ));
    }

    pub fn checksums(&self, text: &str) {
        fs::write(self.path("checkout/plugin/checksums.txt"), text)
            .expect("the file can be written");
    }

    /// Returns the command of the launcher as Claude Code starts it, or by this shell.
    pub fn command(&self, shell: &[&str]) -> Command {
        let mut command = match shell {
            [] => Command::new(self.launcher()),
            [shell, words @ ..] => {
                let mut command = Command::new(which(shell));
                command.args(words).arg(self.launcher());
                command
            }
        };
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", self.path("tools"))
            .envs(self.environment.iter().cloned())
            .current_dir(self.path("elsewhere"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the launcher. Returns the output of the program that it finds, or else the launcher's error.
    pub fn start(&self, shell: &[&str]) -> Result<String, String> {
        let output = self.command(shell).args(["a", "b c", ""]).output();
        let Output {
            status,
            stdout,
            stderr,
        } = output.expect("the launcher starts");
        let stdout = String::from_utf8(stdout).expect("the output is UTF-8");
        let stderr = String::from_utf8(stderr).expect("the output is UTF-8");
        self.assert_tidy();
        if status.success() {
            return Ok(stdout.trim_end_matches('\n').to_owned());
        }
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert_eq!(stdout, "", "the launcher writes nothing to stdout");
        Err(stderr)
    }

    /// Asserts that no incomplete files are left.
    pub fn assert_tidy(&self) {
        let Ok(installed) = fs::read_dir(self.path("data/bin")) else {
            return;
        };
        for entry in installed {
            let name = entry.expect("the folder can be read").file_name();
            assert_eq!(name.to_str(), Some(&*format!("claude-socket-{VERSION}")));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub fn path_in(root: &Path, inside: &str) -> String {
    root.join(inside)
        .into_os_string()
        .into_string()
        .expect("the path is UTF-8")
}

/// Returns the path of a program.
pub fn which(tool: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH is set");
    std::env::split_paths(&path)
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("this test needs {tool}"))
}

/// Runs a command and returns its output.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}
