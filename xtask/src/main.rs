//! One command for the repository.
fn main() {}
