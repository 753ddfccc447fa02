//! Section E of the fault catalogue, second half: our own state full, damaged, lost, or somebody else's.
