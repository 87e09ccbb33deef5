//! What the binary can be asked to do.

pub mod demo;
pub mod doctor;
pub mod serve;
pub mod token;
