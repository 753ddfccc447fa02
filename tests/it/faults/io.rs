//! Section D of the fault catalogue: filesystems that answer with errors, late, or not at all.
