//! `runner-launch` puts a self-hosted CI runner on a cloud instance for exactly as long as there
//! are jobs for it.
//!
//! The library exists for the program and its tests; it promises no stable interface.

pub mod agent;
pub mod bootstrap;
pub mod cache;
pub mod cli;
pub mod cloud;
pub mod error;
pub mod fleet;
pub mod forge;
pub mod host;
pub mod http;
pub mod launch;
pub mod pipeline;
pub mod secret;
pub mod signals;
pub mod spec;
pub mod ssh;
pub mod uuid;

mod program;

pub use program::run;
