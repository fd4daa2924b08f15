//! What Azure alone has; what holds on every cloud is tested beside, by promise.

mod capacity;
mod launch;
mod patience;
mod places;
