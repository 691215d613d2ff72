//! Properties over random graphs: crashes anywhere, every order of completion, the same run twice, calls made once.

mod crash_anywhere;
mod edits;
mod graphs_drawn;
mod orders;
mod spenders;
