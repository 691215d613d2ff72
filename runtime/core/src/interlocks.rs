//! The interlocks: small pure state machines that stop, delay, redirect or cheapen an act. None sees model text.

pub mod approval;
pub mod breaker;
pub mod budget;
pub mod calibration;
pub mod gate;
pub mod guard;
pub mod plain;
pub mod redact;
pub mod track_record;
