//! The text protocol, both ways.
