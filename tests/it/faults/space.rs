//! Sections B and C of the fault catalogue: files in use, and what comes back.
