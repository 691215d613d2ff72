//! Each role alone, with scripted tools.
