//! The tests. Everything but [`hub`] and [`disorder`] runs the real binary over real pipes and real
//! sockets.

mod app;
mod demo;
mod doctor;
mod download;
mod disorder;
mod frames;
mod hooks;
mod host;
mod http;
mod hub;
mod launcher;
mod life;
mod load;
mod machine;
mod plugin;
mod prepare;
mod releases;
mod server;
mod settings;
mod stories;
mod story;
mod web;
