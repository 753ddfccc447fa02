//! due -> send -> retry -> record; one file for each channel.
