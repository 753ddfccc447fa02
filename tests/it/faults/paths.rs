//! Section A of the fault catalogue: paths, races, identity; and kernels that lack the calls of today.

mod api;
mod kernels;
mod many;
mod mixed;
mod odd;
mod races;
