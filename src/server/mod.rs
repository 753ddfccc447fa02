//! What programs read: the JSON shapes of the API.

pub mod shapes;
