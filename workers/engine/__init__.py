"""Trains a compiled Keras network in compiled chunks of steps; knows nothing of specs, tables or jobs."""
