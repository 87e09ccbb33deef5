//! The tests. Everything but [`hub`] runs the real binary over real pipes and real
//! sockets.

mod app;
mod demo;
mod doctor;
mod frames;
mod host;
mod http;
mod hub;
mod life;
mod load;
mod prepare;
mod server;
mod settings;
mod stories;
mod story;
mod web;
