// A server for the examples in the documentation, which include this file as an expression.
{
    use std::io::{BufRead, BufReader};
    use std::path::PathBuf;
    use std::process::{Child, ChildStdout, Command, Stdio};

    /// `claude-socket demo`, as long as this lives.
    struct Demo {
        process: Child,
        _output: BufReader<ChildStdout>,
        url: String,
    }

    impl Drop for Demo {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    // Of the server; the examples are those of a crate in there.
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(folder.join("target"), PathBuf::from);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let binary = target.join(profile).join("claude-socket");
    if !binary.exists() {
        let cargo = Command::new("cargo").arg("build").current_dir(&folder).status();
        assert!(cargo.expect("cargo runs").success());
    }
    let mut process = Command::new(binary)
        .args(["demo", "--port", "0", "--pace", "1ms"])
        .env_remove("CLAUDE_SOCKET_TOKEN")
        .env("CLAUDE_SOCKET_STATE_DIR", std::env::temp_dir().join("claude-socket-no-tokens"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("ws://") {
        line.clear();
        assert!(output.read_line(&mut line).expect("it is text") > 0, "it has ended");
    }
    let (_, address) = line.split_once("ws://").expect("it is there");
    let url = format!("ws://{}", address.split('/').next().unwrap_or_default());
    Demo { process, _output: output, url }
}
