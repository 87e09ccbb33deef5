//! A small file system of a test's own. It is mounted in a mount namespace that a helper process holds: servers are
//! started in that namespace, and with the helper it is gone, however the test ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::getuid;

use crate::server::{Server, address_in, binary};

/// What the helper runs. It says when the file system is there, and ends when its input does.
const MOUNT: &str = r#"mount "$@" && echo mounted && exec cat"#;

/// A file system, mounted until this is dropped.
pub struct Disk {
    helper: Child,
    stdin: Option<ChildStdin>,
    /// Where it is mounted, as seen by those in the namespace.
    mounted: PathBuf,
    /// The folder of the test, which also an image is in.
    folder: PathBuf,
}

impl Disk {
    /// Returns an empty file system in memory, of so many KiB; `None`, and says so, where nothing can be mounted.
    pub fn of_memory(kib: u32) -> Option<Self> {
        let folder = folder();
        let size = format!("size={kib}k,mode=0700");
        Self::mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], folder)
    }

    /// Returns an empty ext4 of so many MiB in an image; `None`, and says so, where that can't be mounted.
    pub fn of_image(mib: u64) -> Option<Self> {
        let folder = folder();
        let image = folder.join("image");
        let file = fs::File::create(&image).expect("the folder can be written");
        file.set_len(mib << 20).expect("the file can grow");
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&image)
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("there is no mkfs.ext4 here: this is not tested");
            let _ = fs::remove_dir_all(folder);
            return None;
        }
        Self::mount_image(folder)
    }

    /// Mounts the image in a folder.
    fn mount_image(folder: PathBuf) -> Option<Self> {
        let image = folder.join("image");
        // The system itself writes only every five minutes.
        let options = "loop,commit=300";
        let image = image.to_str().expect("the path is UTF-8").to_owned();
        Self::mount(&["-t", "ext4", "-o", options, &image], folder)
    }

    fn mount(what: &[&str], folder: PathBuf) -> Option<Self> {
        let mounted = folder.join("disk");
        fs::create_dir_all(&mounted).expect("the folder can be made");
        let mut command = Command::new("unshare");
        if !getuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        let helper = command
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                MOUNT,
                "sh",
            ])
            .args(what)
            .arg(&mounted)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let disk = helper.ok().map(|mut helper| Self {
            stdin: helper.stdin.take(),
            helper,
            mounted,
            folder,
        });
        let Some(mut disk) = disk else {
            eprintln!("there is no unshare(1) here: this is not tested");
            return None;
        };
        let stdout = disk.helper.stdout.take().expect("its output is piped");
        let mut said = String::new();
        let _ = BufReader::new(stdout).read_line(&mut said);
        if said.is_empty() {
            eprintln!("nothing can be mounted here: this is not tested");
            return None;
        }
        Some(disk)
    }

    /// Returns a command that runs where the file system is mounted.
    pub fn command(&self, of: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.helper.id().to_string());
        command.arg("--mount");
        if !getuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(of.get_program()).args(of.get_args());
        for (name, value) in of.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Returns a state folder on it, as a server sees it.
    pub fn state(&self) -> PathBuf {
        self.mounted.join("state")
    }

    /// Starts a server on a free port whose state folder is on it. Claude Code has sent nothing yet.
    pub fn server(&self, flags: &[&str]) -> Server {
        let mut command = binary();
        command.args(["--port", "0"]).args(flags);
        command.env("CLAUDE_SOCKET_STATE_DIR", self.state());
        let mut server = Server::spawn(&mut self.command(&command));
        server.address = address_in(&server.wait_for_log("listening on "));
        server
    }

    /// Returns where a test finds a file that those in the namespace see under this path.
    pub fn seen(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").expect("the path is absolute");
        PathBuf::from(format!("/proc/{}/root", self.helper.id())).join(path)
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let ballast = self.seen(&self.mounted).join("ballast");
        let mut file = fs::File::create(ballast).expect("a file can be made");
        // As much as fits, and then each byte.
        for block in [64 * 1024, 1] {
            while std::io::Write::write(&mut file, &vec![1; block]).is_ok_and(|len| len > 0) {}
        }
    }

    /// Makes room again.
    pub fn make_room(&self) {
        fs::remove_file(self.seen(&self.mounted).join("ballast")).expect("it can be removed");
    }

    /// Mounts it again, `ro` or `rw`. Returns `false` if the system doesn't do that now.
    pub fn remount(&self, mode: &str) -> bool {
        let mode = format!("remount,{mode}");
        self.run("mount", &["-o", &mode])
    }

    /// Has whoever writes to it wait, or go on.
    pub fn freeze(&self, is_frozen: bool) -> bool {
        let flag = if is_frozen { "--freeze" } else { "--unfreeze" };
        self.run("fsfreeze", &[flag])
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(program);
        command.args(arguments).arg(&self.mounted);
        let status = self.command(&command).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Returns what would be there if the power were cut now: what programs had written through to the disk, and nothing
    /// that was in the system's memory. Whoever writes to it must be stopped meanwhile.
    pub fn after_power_cut(&self) -> Option<Self> {
        let folder = folder();
        fs::copy(self.folder.join("image"), folder.join("image")).expect("there is room");
        Self::mount_image(folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.helper.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns a folder that is another's for each file system.
fn folder() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("claude-socket-disk-{}-{count}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}
