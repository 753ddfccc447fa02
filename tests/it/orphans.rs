//! The whole program between a recording tree and the platform's real database: what it forgot, what it says wrongly, and what is done.

mod distrust;
mod odd;
mod site;
mod story;
