//! Parse arguments, dispatch; nothing else.
fn main() {}
