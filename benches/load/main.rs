//! The benchmark: plays the agent (Claude Code) and its clients around the real program, and measures
//! it. `cargo bench -- --help` lists its options; benches/README.md explains the figures.
//!
//! This file has the scenarios, and the order in which they run. A scenario starts servers
//! (`server`), has the `agent` and clients (`client`, `client_pool`) talk to them, and returns
//! `figures`; `report` and `plot` print them. `guard` counts instead, and times nothing.
//!
//! On a noisy machine the figures are as stable as they can be: CPU time and memory are the kernel's
//! own counts for the server, and two servers are measured in turn, scenario by scenario.

mod agent;
mod client;
mod client_pool;
mod fairness;
mod figures;
mod flood;
mod guard;
mod idle;
mod latency;
mod limits;
mod machine;
mod options;
mod plot;
mod process;
mod report;
mod server;
mod throughput;
mod watchdog;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::figures::{Figure, Samples};
use crate::limits::Limits;
use crate::options::{Options, Workload};
use crate::report::{Measurement, Report};
use crate::server::{Launch, Result, Target};

/// A group of figures that are measured together.
struct Scenario {
    name: &'static str,
    about: &'static str,
    run: fn(&Target, &Workload) -> Result<Vec<Figure>>,
}

const SCENARIOS: [Scenario; 9] = [
    Scenario {
        name: "start",
        about: "time from the start until it answers",
        run: idle::start,
    },
    Scenario {
        name: "idle",
        about: "memory of a server without clients",
        run: idle::idle,
    },
    Scenario {
        name: "latency",
        about: "latency of one message: each direction, round trip",
        run: latency::one_message,
    },
    Scenario {
        name: "messages",
        about: "messages of clients a second",
        run: throughput::messages,
    },
    Scenario {
        name: "broadcast",
        about: "latency of one reply to many clients",
        run: latency::broadcast,
    },
    Scenario {
        name: "deliveries",
        about: "deliveries a second to many clients",
        run: throughput::deliveries,
    },
    Scenario {
        name: "clients",
        about: "memory and CPU time of idle clients",
        run: idle::clients,
    },
    Scenario {
        name: FAIRNESS,
        about: "waits of a client while others ask for as much as they can; with --only",
        run: fairness::fairness,
    },
    Scenario {
        name: GROWTH,
        about: "latency and memory with 1 to 10,000 clients; with --plot",
        run: latency::growth,
    },
];

/// The scenario of the loads. Other servers don't answer all of them, so it is only measured if `--only`
/// names it.
const FAIRNESS: &str = "fairness";
/// The scenario of the plot. It is only measured for `--plot`, or if `--only` names it.
const GROWTH: &str = "growth";
/// The longest that a scenario may take; then its server is killed.
const SCENARIO_TIMEOUT: Duration = Duration::from_secs(300);
/// The open files that are left for anything but clients.
const RESERVED_FILES: u64 = 64;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        for Scenario { name, about, .. } in &SCENARIOS {
            println!("{name:12}{about}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scenarios = select_scenarios(options)?;
    watchdog::kill_servers_on_signal()
        .map_err(|error| format!("signals cannot be caught: {error}"))?;
    if let Some(file) = &options.guard {
        raise_file_limit();
        return guard::run(file, options.static_programs.as_deref(), options.record);
    }
    let targets = targets(options)?;
    let workload = workload(options);
    let names = targets.iter().map(|target| target.name.clone());
    let mut report = Report::new(names.collect(), options.vs.is_some());
    for scenario in scenarios {
        eprintln!("{} …", scenario.name);
        let figures = measure_in_turn(scenario, &targets, &workload, options.rounds);
        report.add(Measurement {
            name: scenario.name,
            figures,
        });
    }
    println!(
        "{}",
        if options.json {
            report.json()
        } else {
            report.table()
        }
    );
    if let Some(file) = &options.plot {
        plot::draw(&report, file)
            .map_err(|error| format!("{} cannot be drawn: {error}", file.display()))?;
    }
    let failures: Vec<&String> = report.failures().collect();
    failures.iter().for_each(|failure| eprintln!("{failure}"));
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn select_scenarios(options: &Options) -> Result<Vec<&'static Scenario>> {
    let wanted = |scenario: &&Scenario| match &options.only[..] {
        [] => scenario.name != FAIRNESS && (scenario.name != GROWTH || options.plot.is_some()),
        only => {
            only.iter()
                .any(|part| scenario.name.contains(part.as_str()))
                || (scenario.name == GROWTH && options.plot.is_some())
        }
    };
    let selected: Vec<&Scenario> = SCENARIOS.iter().filter(wanted).collect();
    if selected.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        return Err(format!(
            "no scenario has \"{}\" in its name; there are {}",
            options.only.join("\" or \""),
            names.join(", ")
        ));
    }
    Ok(selected)
}

fn targets(options: &Options) -> Result<Vec<Target>> {
    let shell = |command: &String| Target {
        name: program_name(command),
        launch: Launch::Shell(command.clone()),
        limits: None,
        memory_only: false,
    };
    let built = Target {
        name: "claude-socket".into(),
        launch: Launch::Built,
        limits: None,
        memory_only: false,
    };
    let first = options.server.as_ref().map_or(built, shell);
    let mut targets = vec![first];
    targets.extend(options.vs.as_ref().map(shell));
    if options.small {
        let limits = Limits::small()?;
        for index in 0..targets.len() {
            let target = targets[index].clone();
            targets.push(Target {
                name: format!("{}, small", target.name),
                limits: Some(limits.clone()),
                ..target
            });
        }
    }
    Ok(targets)
}

/// Returns the name of the program that a command starts.
fn program_name(command: &str) -> String {
    let program = command.split_whitespace().next().unwrap_or_default();
    program.rsplit('/').next().unwrap_or_default().into()
}

/// Raises the limit of open files, which the servers inherit, and returns a workload with no more
/// clients than it allows.
fn workload(options: &Options) -> Workload {
    let mut workload = Workload::new(options.quick);
    raise_file_limit();
    if let Some(files) = getrlimit(Resource::Nofile).current {
        let clients = usize::try_from(files.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX);
        if clients < workload.max_clients {
            eprintln!(
                "only {files} files may be open (ulimit -Hn), so there are {clients} clients at most instead of {}",
                workload.max_clients
            );
            workload.max_clients = clients;
            workload.clients = workload.clients.min(clients);
        }
    }
    workload
}

fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

/// Runs a scenario with each server in turn, so that other work of the machine affects all of them.
/// Returns for each server the medians over the rounds, or its first error.
fn measure_in_turn(
    scenario: &Scenario,
    targets: &[Target],
    workload: &Workload,
    rounds: u32,
) -> Vec<Result<Vec<Figure>>> {
    let mut all: Vec<Result<Vec<Vec<Figure>>>> = targets.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..rounds {
        for (target, rounds) in targets.iter().zip(&mut all) {
            let Ok(done) = rounds else {
                continue;
            };
            match watchdog::with_timeout(SCENARIO_TIMEOUT, || (scenario.run)(target, workload)) {
                Ok(figures) => done.push(figures),
                Err(error) => *rounds = Err(format!("{}: {error}", scenario.name)),
            }
        }
    }
    all.into_iter()
        .map(|rounds| Ok(medians(&rounds?)))
        .collect()
}

fn medians(rounds: &[Vec<Figure>]) -> Vec<Figure> {
    let Some((first, _)) = rounds.split_first() else {
        return Vec::new();
    };
    let figures = first.iter().enumerate().map(|(index, figure)| {
        let mut values = Samples::default();
        rounds
            .iter()
            .for_each(|round| values.push(round[index].value));
        Figure::new(figure.name.clone(), values.p50(), figure.unit)
    });
    figures.collect()
}
