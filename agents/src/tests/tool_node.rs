//! Tool nodes: check, undo, keys, classes.
