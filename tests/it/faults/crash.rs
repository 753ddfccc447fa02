//! Section E of the fault catalogue, first half: killed, or without power, at every step.
