//! The tests. Everything but [`hub`] runs the real binary over real pipes and real
//! sockets.

mod access;
mod app;
mod audit;
mod demo;
mod frames;
mod host;
mod http;
mod hub;
mod life;
mod load;
mod prepare;
mod proxies;
mod server;
mod settings;
mod state;
mod stories;
mod story;
mod tokens;
mod web;
