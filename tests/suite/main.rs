//! The tests.

mod hub;
mod story;
