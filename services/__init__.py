"""What the service does, without HTTP: answer a turn, remember it, count it."""
