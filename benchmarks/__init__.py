"""Measurements with bars; each module is a script: ``python -m benchmarks.NAME``."""
