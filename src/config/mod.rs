//! From what the user says to checked settings, or every problem with it.

mod trees;

pub use trees::for_trees;
