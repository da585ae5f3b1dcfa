"""Real processes under random faults, and what must hold afterwards; knows the service by its outside only."""
