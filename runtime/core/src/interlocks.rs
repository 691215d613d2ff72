//! The interlocks: small pure state machines that stop, delay, redirect or cheapen an act. None sees model text.

pub mod approval;
pub mod breaker;
pub mod budget;
pub mod gate;
pub mod guard;
