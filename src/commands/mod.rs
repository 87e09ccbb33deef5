//! What the binary can be asked to do.

pub mod demo;
pub mod doctor;
pub mod serve;
#[cfg(feature = "completions")]
pub mod shell;
#[cfg(feature = "terminal")]
pub mod terminal;
pub mod token;
