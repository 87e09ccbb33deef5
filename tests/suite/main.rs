//! The tests. Everything but [`hub`] and [`disorder`] runs the real binary over real pipes and real
//! sockets.

mod access;
mod agent;
mod app;
mod audit;
mod cli;
mod client;
mod demo;
mod disorder;
mod doctor;
mod download;
mod examples;
#[cfg(target_os = "linux")]
mod faults;
mod frames;
mod history_quota;
mod hooks;
mod http;
mod hub;
mod launcher;
mod life;
mod load;
mod machine;
mod pages;
mod plugin;
mod prepare;
mod properties;
mod proxies;
mod raw;
mod relay;
mod release;
mod releases;
mod schema;
mod server;
mod settings;
#[cfg(target_os = "linux")]
mod soak;
mod state;
mod stories;
mod story;
mod tokens;
mod web;
