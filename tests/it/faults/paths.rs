//! Section A of the fault catalogue: paths, races, identity.
