//! The tests. [`hub`], [`disorder`] and [`properties`] run the hub alone; what is about frames,
//! stories and load runs the server in a thread of the test; everything else runs the real binary.
//! Pipes and sockets are real.

mod access;
mod agent;
mod app;
mod audit;
mod cli;
mod client;
mod control;
mod cors;
mod data;
mod demo;
#[cfg(target_os = "linux")]
mod disk;
mod disorder;
mod doctor;
mod download;
mod examples;
#[cfg(target_os = "linux")]
mod faults;
mod flood;
mod frame_limit;
mod frames;
mod history_quota;
mod hooks;
mod http;
mod hub;
mod launcher;
mod life;
mod limits;
mod load;
mod log_files;
mod machine;
mod main_loop;
#[cfg(target_os = "linux")]
mod memory;
mod pages;
mod plugin;
mod prepare;
mod properties;
mod proxies;
mod raw;
mod receipts_quota;
mod refusals;
mod relay;
mod release;
mod releases;
mod schema;
mod server;
mod session_quota;
mod settings;
#[cfg(target_os = "linux")]
mod soak;
mod state;
mod storage;
mod store;
#[cfg(target_os = "linux")]
mod store_kills;
mod stories;
mod story;
mod tokens;
mod turns;
mod unread;
mod web;
