//! Which texts match which cause.
