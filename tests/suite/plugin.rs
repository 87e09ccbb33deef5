//! The Claude Code plugin: its files agree with the rest of the repository. The tests of its
//! launcher are in `launcher.rs`, those with the real Claude Code in `tests/claude`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::prepare::prepare;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `Cargo.toml` is the source of the version, `plugin.json` of the repository's address.
#[test]
fn manifests_share_version_and_address() {
    let plugin = json("plugin/.claude-plugin/plugin.json");
    assert_eq!(plugin["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(plugin["repository"], env!("CARGO_PKG_REPOSITORY"));
    assert_eq!(plugin["license"], env!("CARGO_PKG_LICENSE"));
    assert_eq!(text("plugin/LICENSE"), text("LICENSE"));
    if repository("client/package.json").exists() {
        let client = json("client/package.json");
        assert_eq!(client["version"], plugin["version"]);
        let address = client["repository"]["url"].as_str().unwrap_or_default();
        let address = address.trim_start_matches("git+").trim_end_matches(".git");
        assert_eq!(plugin["repository"], address);
    }
    // The launcher reads these without a JSON parser.
    for name in ["version", "repository"] {
        let line = format!("  \"{name}\": {},\n", plugin[name]);
        assert_eq!(
            text("plugin/.claude-plugin/plugin.json")
                .matches(&line)
                .count(),
            1,
            "{line}"
        );
    }
}

#[test]
fn manifests_fit_together() {
    let plugin = json("plugin/.claude-plugin/plugin.json");
    let shop = json(".claude-plugin/marketplace.json");
    assert_eq!(shop["name"], "claude-socket");
    assert_eq!(shop["plugins"][0]["name"], plugin["name"]);
    assert_eq!(shop["plugins"][0]["source"], "./plugin");
    let servers = json("plugin/.mcp.json")["mcpServers"].take();
    let server = plugin["channels"][0]["server"]
        .as_str()
        .expect("the channel names a server");
    let command = servers[server]["command"]
        .as_str()
        .expect("the server has a command");
    let launcher = command.replace("${CLAUDE_PLUGIN_ROOT}", "plugin");
    let mode = fs::metadata(repository(&launcher))
        .expect("the folder takes a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111, "{launcher} can be run");
    for skill in ["status", "access"] {
        let skill = text(&format!("plugin/skills/{skill}/SKILL.md"));
        assert!(skill.contains(&format!("\"{command}\" ")), "{skill}");
    }
}

/// The plugin directory asks for a square PNG of 512 to 2,048 pixels.
#[test]
fn icon_is_square_png() {
    let plugin = json("plugin/.claude-plugin/plugin.json");
    let icon = plugin["icon"].as_str().expect("an icon");
    let icon = fs::read(repository("plugin").join(icon)).expect("the folder takes a file");
    assert_eq!(icon[..16], *b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    let size = |at: usize| u32::from_be_bytes(icon[at..at + 4].try_into().expect("4 bytes"));
    assert_eq!((size(16), size(20)), (512, 512));
    assert!(icon.len() < 50_000, "{} bytes", icon.len());
}

/// Each line is a comment, or what `sha256sum` prints for an asset of this version.
#[test]
fn checksums_are_of_this_version() {
    let prefix = concat!("  claude-socket-", env!("CARGO_PKG_VERSION"), "-");
    for line in text("plugin/checksums.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let (sum, asset) = line
            .split_at_checked(64)
            .expect("the line begins with a checksum");
        assert!(
            sum.bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')),
            "{line}"
        );
        assert!(
            asset.starts_with(prefix) && asset.ends_with(".tar.gz"),
            "{line}"
        );
    }
}

#[test]
fn scripts_pass_shellcheck() {
    prepare(&["shellcheck"]);
    let output = Command::new("shellcheck")
        .args([
            "plugin/bin/claude-socket",
            "tests/prepare",
            "tests/guard",
            "tests/suite/relay/firewall.sh",
            "tests/claude/run",
            ".ci/run",
            ".ci/build",
            ".ci/zig-cc",
            ".ci/package",
            ".ci/checksums",
            ".ci/ready",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("shellcheck is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
