//! Tests over whole libraries.

mod library;
mod quality;
mod recalling;
