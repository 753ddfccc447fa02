//! Section G of the fault catalogue: configuration and control.
