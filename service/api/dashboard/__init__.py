"""The pages at / and /dashboard: what the service can do, for people. Actions go through the public API alone."""
