//! What Azure alone has; what holds on every cloud is tested beside, by promise.

mod capacity;
mod endings;
mod launch;
mod patience;
mod places;
