"""How fast, how small and how steady /predict is, beside other servers: ``python -m benchmarks.predict``."""
