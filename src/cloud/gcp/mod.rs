//! Google Compute Engine, by its REST API.

// The rest of this cloud is on its way.
#![allow(dead_code)]

mod answer;
mod client;
mod credentials;
pub mod give_back;
pub mod metadata;
mod operation;
mod refusal;
#[cfg(test)]
mod scripted;
