"""A thousand workers without networks: the statements of real ones, against a real PostgreSQL."""
