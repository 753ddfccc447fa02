//! Section F of the fault catalogue: mounts and the environment.
