//! The hub against servers in this process and against a real misbehaving child.
