//! What is published: the archives of a release, their checksums, the crate, the container.
//! The workflows around them are in `tests/web/workflows.test.js`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::prepare::prepare;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a command in the repository.
fn run(command: &mut Command) -> Output {
    command
        .current_dir(ROOT)
        .output()
        .expect("the program starts")
}

/// Returns what a command prints, which must succeed.
fn printed(command: &mut Command) -> String {
    let output = run(command);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {wrong}");
    String::from_utf8(output.stdout).expect("the output is text")
}

/// Returns the paths of all files under this folder of the repository, from its root.
fn files_in(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(ROOT).join(folder)).expect("the folder is made") {
        let entry = entry.expect("an entry");
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("text"));
        if entry.file_type().expect("the entry has a type").is_dir() {
            found.extend(files_in(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// `Cargo.toml` says what each package in the programs is for.
#[test]
fn manifest_explains_every_dependency() {
    let manifest =
        fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).expect("Cargo.toml is readable");
    let dependencies = manifest
        .split("[dependencies]")
        .nth(1)
        .expect("the manifest has dependencies");
    let dependencies = dependencies.split("[dev-dependencies]").next();
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let explained: BTreeSet<&str> = dependencies
        .unwrap_or_default()
        .split(|c| !is_word(c))
        .collect();
    let tree = [
        "tree",
        "--locked",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
    ];
    let tree = printed(Command::new(env!("CARGO")).args(tree));
    let packages = tree.lines().filter_map(|line| line.split(' ').next());
    for package in packages.filter(|name| *name != "claude-socket") {
        assert!(explained.contains(package), "what is {package} for?");
    }
}

/// It holds what is built or built in, and what people look for in a crate. `.ci/run` builds it.
#[test]
fn crate_holds_needed_files_only() {
    let mut expected: BTreeSet<String> = files_in("src").into_iter().collect();
    expected.extend(files_in("examples/basic"));
    let others = "Cargo.lock Cargo.toml Cargo.toml.orig CHANGELOG.md LICENSE README.md \
                  SECURITY.md client/claude-socket.js examples/sensor.rs";
    expected.extend(others.split_whitespace().map(str::to_owned));
    let list = ["package", "--list", "--locked", "--allow-dirty"];
    let output = run(Command::new(env!("CARGO")).args(list));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no warnings");
    let listed = String::from_utf8(output.stdout).expect("the output is text");
    // Only there in a repository.
    let listed = listed
        .lines()
        .filter(|name| *name != ".cargo_vcs_info.json");
    assert_eq!(listed.map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    let built_in = fs::read_to_string(Path::new(ROOT).join("src/socket/assets.rs"));
    let built_in = built_in.expect("assets.rs is readable");
    for file in files_in("examples/basic") {
        let name = file.trim_start_matches("examples/basic/");
        assert!(built_in.contains(name), "{file} is built in");
    }
}

#[test]
fn container_is_built_as_documented() {
    prepare(&["python3", "python"]);
    let hadolint = crate::examples::python().replace("/bin/python", "/bin/hadolint");
    let found = run(Command::new(hadolint).arg("Dockerfile"));
    let said = String::from_utf8_lossy(&found.stdout);
    assert!(found.status.success(), "{said}");
}

#[cfg(target_os = "linux")]
mod archive {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::machine::{ASSET, Machine, TOOLS, VERSION};
    use crate::releases::Answer;

    /// The archive of the binaries under test, and where it is unpacked.
    fn packed(machine: &Machine) -> (Vec<u8>, PathBuf) {
        prepare(&["strip:binutils"]);
        let binaries = machine.path("binaries");
        fs::create_dir_all(&binaries).expect("the folder is made");
        let built = Path::new(env!("CARGO_BIN_EXE_claude-socket"));
        for name in ["claude-socket", "claude-socket-cli"] {
            // As in a release; what helps to debug would take long to compress.
            let from = built.with_file_name(name);
            printed(
                Command::new("strip")
                    .arg(from)
                    .arg("-o")
                    .arg(binaries.join(name)),
            );
        }
        let pack = || {
            let mut pack = Command::new(".ci/package");
            pack.arg("x86_64-unknown-linux-musl").arg(&binaries);
            pack.env("CARGO_TARGET_DIR", machine.path("target"));
            let archive = PathBuf::from(printed(&mut pack).trim_end());
            assert_eq!(archive, machine.path("target/releases").join(ASSET));
            fs::read(&archive).expect("an archive")
        };
        let archive = pack();
        assert!(pack() == archive, "the same bytes each time");
        printed(
            Command::new("tar")
                .arg("-xzf")
                .arg(machine.path("target/releases").join(ASSET))
                .arg("-C")
                .arg(&machine.root),
        );
        let folder = machine.path(ASSET.trim_end_matches(".tar.gz"));
        (archive, folder)
    }

    #[test]
    fn archive_holds_programs_and_launcher_takes_it() {
        let machine = Machine::new(&TOOLS);
        let (archive, folder) = packed(&machine);
        let text = |name: &str| fs::read_to_string(folder.join(name)).expect(name);

        let listed = printed(Command::new("find").args([
            folder.as_os_str(),
            "-type".as_ref(),
            "f".as_ref(),
        ]));
        let listed = listed.lines().map(|path| {
            let mode = fs::metadata(path)
                .expect("the folder takes a file")
                .permissions()
                .mode()
                & 0o777;
            let path = Path::new(path)
                .strip_prefix(&folder)
                .expect("the path is in the folder");
            (path.to_str().expect("text").to_owned(), mode)
        });
        let listed: BTreeSet<_> = listed.collect();
        // Every command has its page: those that the program's own page names, but for `help`.
        let page = text("man/claude-socket.1").replace('\\', "");
        let commands = page.lines().filter_map(|line| line.strip_suffix("(1)"));
        let pages: Vec<_> = commands.filter(|name| !name.ends_with("-help")).collect();
        assert!(pages.contains(&"claude-socket-send"), "{page}");
        let others = "LICENSE README.md completions/_claude-socket \
                      completions/claude-socket.bash completions/claude-socket.fish \
                      man/claude-socket.1";
        let mut expected: BTreeSet<_> = others
            .split_whitespace()
            .map(|name| (name.to_owned(), 0o644))
            .collect();
        expected.extend(pages.iter().map(|name| (format!("man/{name}.1"), 0o644)));
        expected
            .extend(["claude-socket", "claude-socket-cli"].map(|name| (name.to_owned(), 0o755)));
        assert_eq!(listed, expected);
        assert!(text("completions/claude-socket.bash").contains("complete -F"));
        assert!(text("completions/_claude-socket").starts_with("#compdef claude-socket"));
        for name in ["claude-socket", "claude-socket-cli"] {
            let said = printed(Command::new(folder.join(name)).arg("--version"));
            assert_eq!(said, format!("claude-socket {VERSION}\n"), "{name}");
        }

        machine.serve(Answer::File(archive.clone()));
        machine.add_checksum(&archive);
        let said = printed(machine.command(&[]).arg("--version"));
        assert_eq!(said, format!("claude-socket {VERSION}\n"));
        assert!(
            machine
                .path(&format!("data/bin/claude-socket-{VERSION}"))
                .exists()
        );
    }

    /// A checkout with the scripts in it, and what they read.
    fn checkout(machine: &Machine, changelog: &str) {
        let copy = |from: &str| {
            let from = Path::new(ROOT).join(from);
            printed(
                Command::new("cp")
                    .arg("-R")
                    .arg(from)
                    .arg(machine.path("checkout")),
            );
        };
        for from in [".ci", "Cargo.toml", "client", "crates"] {
            copy(from);
        }
        fs::write(machine.path("checkout/CHANGELOG.md"), changelog)
            .expect("the folder takes a file");
    }

    #[test]
    fn checksums_cover_all_archives_and_launcher_takes_them() {
        let machine = Machine::new(&TOOLS);
        checkout(&machine, "");
        machine.stand_in("new", VERSION, "downloaded");
        let archive = machine.release(&machine.path("new"));
        let archives = machine.path("archives");
        fs::create_dir_all(&archives).expect("the folder is made");
        let sum = || {
            Command::new(machine.path("checkout/.ci/checksums"))
                .arg(&archives)
                .output()
                .expect("the program starts")
        };
        fs::write(archives.join(ASSET), &archive).expect("the folder takes a file");
        machine.checksums("# A comment.\n00  claude-socket-0.0.9-armv7-linux.tar.gz\n");
        let before = machine
            .start(&[])
            .expect_err("there is none of this version");
        assert!(before.contains("checksums.txt has no checksum"), "{before}");
        assert!(!sum().status.success(), "five are missing");
        for platform in [
            "aarch64-linux",
            "aarch64-macos",
            "armv6-linux",
            "armv7-linux",
            "x86_64-macos",
        ] {
            let name = format!("claude-socket-{VERSION}-{platform}.tar.gz");
            fs::write(archives.join(name), platform).expect("the folder takes a file");
        }
        assert!(sum().status.success());
        let sums = fs::read_to_string(machine.path("checkout/plugin/checksums.txt"));
        let sums = sums.expect("the folder takes a file");
        assert_eq!(sums.lines().count(), 7, "{sums}");
        assert!(sums.starts_with("# A comment.\n"), "{sums}");
        assert!(!sums.contains("0.0.9"), "{sums}");
        assert_eq!(machine.start(&[]).as_deref(), Ok("downloaded:a b c "));
        fs::write(archives.join("claude-socket-0.0.9.tar.gz"), "")
            .expect("the folder takes a file");
        assert!(!sum().status.success(), "one too many");
    }

    #[test]
    fn release_is_refused_until_everything_fits() {
        let machine = Machine::new(&TOOLS);
        let changelog = format!("# Changelog\n\n## [{VERSION}] - 2026-01-01\n");
        checkout(&machine, &changelog);
        let ready = |reference: &str, repository: &str| {
            let script = machine.path("checkout/.ci/ready");
            let output = Command::new(script).args([reference, repository]).output();
            let output = output.expect("the program starts");
            let said = String::from_utf8(output.stderr).expect("text");
            assert_eq!(output.status.success(), said.is_empty(), "{said}");
            said
        };
        let (branch, tag) = (format!("release/{VERSION}"), format!("v{VERSION}"));
        let here = "https://example.org/a/b";
        assert!(ready(&branch, here).contains("plugin.json names no repository"));
        machine.repository(here);
        assert_eq!(ready(&branch, here), "");
        assert!(
            ready(&branch, "https://example.org/c").contains("and this is https://example.org/c")
        );
        assert!(ready("release/9.9.9", here).contains("Cargo.toml has the version"));
        assert!(ready(&tag, here).contains("has 0 of the 6 checksums"));
        let sums: String = (1..=6)
            .map(|n| format!("{}  claude-socket-{VERSION}-{n}.tar.gz\n", "0".repeat(64)))
            .collect();
        machine.checksums(&sums);
        assert_eq!(ready(&tag, here), "");
        let package = machine.path("checkout/client/package.json");
        let text = fs::read_to_string(&package).expect("the folder takes a file");
        fs::write(&package, text.replace(VERSION, "9.9.9")).expect("the folder takes a file");
        assert!(ready(&tag, here).contains("client/package.json has the version 9.9.9"));
        fs::write(machine.path("checkout/CHANGELOG.md"), "## [Unreleased]\n")
            .expect("the folder takes a file");
        assert!(ready(&branch, here).contains("CHANGELOG.md has no section"));
    }
}
