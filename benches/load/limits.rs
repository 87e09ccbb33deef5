//! A small machine: one core and little memory.
//!
//! `taskset -c 0` limits the core, and a cgroup the memory. `ulimit -v` would count addresses, of
//! which stacks and runtimes reserve far more than they use: Bun reserves tens of gigabytes and
//! would not start. A cgroup counts pages, and those that the kernel needs for sockets and threads
//! too. It needs root, or a cgroup that was delegated to this user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use crate::server::Result;

/// The memory of a small machine, in bytes.
pub const MEMORY: u64 = 64 * 1024 * 1024;

/// The prefix of the cgroups' names.
const PREFIX: &str = "claude-socket-bench-";

/// A cgroup. It is removed when the last clone is dropped.
#[derive(Clone)]
pub struct Limits {
    folder: Arc<Folder>,
}

struct Folder(PathBuf);

impl Limits {
    /// Creates a cgroup with [`MEMORY`].
    ///
    /// # Errors
    /// If no cgroup can be created.
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
                // Where there is swap, it must not be used.
                let _ = fs::write(folder.0.join("memory.swap.max"), "0");
                let folder = Arc::new(folder);
                return Ok(Self { folder });
            }
        }
        Err(
            "--small cannot create a cgroup with a memory controller under /sys/fs/cgroup; run it as root"
                .into(),
        )
    }

    /// Returns a command that enters the cgroup, then becomes `command` on one core.
    pub fn wrap(&self, command: Vec<String>) -> Vec<String> {
        let procs = self.folder.0.join("cgroup.procs");
        let script = r#"echo $$ >"$0" && exec taskset -c 0 "$@""#;
        let mut wrapped = vec!["sh".into(), "-c".into(), script.into()];
        wrapped.push(procs.to_string_lossy().into_owned());
        wrapped.extend(command);
        wrapped
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The cgroup is empty, because the servers have ended.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Removes the cgroups of interrupted benchmarks. The kernel keeps those in which a process runs.
fn remove_old(root: &Path) {
    for folder in fs::read_dir(root).into_iter().flatten().flatten() {
        if folder.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_dir(folder.path());
        }
    }
}
