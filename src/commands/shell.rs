//! `claude-socket completions` and `man`: completions for shells, and pages for man(1).

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::Error;

/// Stands at the bottom of each page.
const SOURCE: &str = concat!("claude-socket ", env!("CARGO_PKG_VERSION"));

#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell that completes
    pub shell: Shell,
}

#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The command that the page is about; the program itself if left out
    pub command: Option<String>,
}

/// Prints a script that completes this program's arguments.
///
/// # Errors
/// If it cannot be printed.
pub fn completions(args: &CompletionsArgs, mut program: Command) -> Result<ExitCode, Error> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    if args.shell == Shell::Bash {
        // With a hyphen in the name nothing is completed behind a command (clap issue 6421). Only
        // the lines that register the script need the real name.
        let plain = name.replace('-', "");
        clap_complete::generate(args.shell, &mut program, &plain, &mut script);
        let text = String::from_utf8_lossy(&script).into_owned();
        let (of_plain, of_name) = (format!("default {plain}\n"), format!("default {name}\n"));
        script = text.replace(&of_plain, &of_name).into_bytes();
    } else {
        clap_complete::generate(args.shell, &mut program, name, &mut script);
    }
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a page for man(1).
///
/// # Errors
/// If there is no such command, or the page cannot be printed.
pub fn man(args: &ManArgs, mut program: Command) -> Result<ExitCode, Error> {
    program.build();
    let page = match &args.command {
        None => program,
        Some(name) => {
            let names = program
                .get_subcommands()
                .map(|command| command.get_name().to_owned());
            let names: Vec<String> = names.collect();
            let Some(command) = program.find_subcommand(name) else {
                return Err(Error::usage(format_args!(
                    "there is no command {name:?}; give one of {}",
                    names.join(", ")
                )));
            };
            command.clone()
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .source(SOURCE)
        .render(&mut text)?;
    io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
