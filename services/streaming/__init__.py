"""A running answer and its readers: tasks, logs, stores, frames and heartbeats."""
