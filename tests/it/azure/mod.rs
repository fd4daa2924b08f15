//! What Azure alone has; what holds on every cloud is tested beside, by promise.

mod access;
mod capacity;
mod closed;
mod endings;
mod fleet;
mod giving_back;
mod launch;
mod patience;
mod places;
