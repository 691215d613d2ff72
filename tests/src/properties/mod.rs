//! Properties over random graphs: crashes anywhere, every order of completion, the same run twice, calls made once, stale owners.

mod crash_anywhere;
mod edits;
mod graphs_drawn;
mod orders;
mod spenders;
mod stale_engines;
