//! Tests that need a process of their own or a disk.

mod crash;
mod damage;
mod suite;
