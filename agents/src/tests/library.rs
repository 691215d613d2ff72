//! The graphs that ship compile, without a warning, and their own tests can be read.

use super::world::library;

#[test]
fn the_library_compiles_without_a_warning() {
    for name in ["etl-incident", "etl-reliability"] {
        assert_eq!(library(name).name(), name);
    }
}
