//! What Google Cloud alone has; what holds on every cloud is tested beside, by promise.

mod access;
mod closed;
mod endings;
mod fleet;
mod launch;
mod places;
