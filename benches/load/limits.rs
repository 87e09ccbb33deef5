//! A small machine: one core and little memory.
//!
//! The core is `taskset -c 0`. The memory is a cgroup's, not `ulimit -v`: that one counts addresses,
//! and a thread's stack or a runtime's heap reserves far more of those than it ever uses (Bun reserves
//! tens of gigabytes and would not start). A cgroup counts pages, those that the kernel needs for
//! sockets and threads too. It takes root, or a cgroup that was given to this user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use crate::server::Result;

/// The memory of a small machine, in bytes.
pub const MEMORY: u64 = 64 * 1024 * 1024;

/// What the cgroups' names begin with.
const PREFIX: &str = "claude-socket-bench-";

/// A cgroup, removed when nothing refers to it any more.
#[derive(Clone)]
pub struct Limits {
    folder: Arc<Folder>,
}

struct Folder(PathBuf);

impl Limits {
    /// One core, and [`MEMORY`].
    ///
    /// # Errors
    /// A sentence, if there is no cgroup to be had.
    pub fn small() -> Result<Self> {
        let name = format!("{PREFIX}{}", process::id());
        // Version 2, alone or beside version 1, and version 1 (cgroups(7)).
        let kinds = [
            ("/sys/fs/cgroup", "memory.max"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ];
        for (root, limit) in kinds {
            remove_old(Path::new(root));
            let folder = Path::new(root).join(&name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let folder = Folder(folder);
            if fs::write(folder.0.join(limit), MEMORY.to_string()).is_ok() {
                // No way out into swap, where there is any.
                let _ = fs::write(folder.0.join("memory.swap.max"), "0");
                let folder = Arc::new(folder);
                return Ok(Self { folder });
            }
        }
        Err(
            "--small needs a cgroup with a memory controller under /sys/fs/cgroup; run it as root"
                .into(),
        )
    }

    /// A command that becomes the given one within the limits.
    pub fn wrap(&self, line: Vec<String>) -> Vec<String> {
        let procs = self.folder.0.join("cgroup.procs");
        let script = r#"echo $$ >"$0" && exec taskset -c 0 "$@""#;
        let mut around = vec!["sh".into(), "-c".into(), script.into()];
        around.push(procs.to_string_lossy().into_owned());
        around.extend(line);
        around
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is empty: the servers have ended.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Removes what interrupted benchmarks have left. One in which something runs cannot be removed.
fn remove_old(root: &Path) {
    for folder in fs::read_dir(root).into_iter().flatten().flatten() {
        if folder.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_dir(folder.path());
        }
    }
}
