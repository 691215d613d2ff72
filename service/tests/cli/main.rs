//! The program as people and scripts meet it: a real process, a real store on disk, output and exit codes.

mod broken;
mod demo;
mod evals;
mod facts;
mod full_disk;
mod guard;
mod http;
mod interlocks;
mod knowledge;
mod library;
mod login;
mod models;
mod notify;
mod readme;
mod stage;
mod store;
mod tasks;
mod testing;
mod threads;
mod tools;
