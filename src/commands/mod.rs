//! What the two programs can be asked to do.

pub mod demo;
pub mod doctor;
pub mod serve;
pub mod shell;
pub mod sibling;
pub mod terminal;
pub mod text;
pub mod token;
