"""How long things took, counted into buckets; a prediction takes microseconds, and counting it next to nothing."""

from bisect import bisect_left

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""In seconds; what takes as long as a bound is counted in its bucket, what takes longer than all in one more."""


class Durations:
    """Counts of durations; one thread adds, others may look."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """By bucket; they are not added up."""
        self.seconds = 0.0
        """All together."""

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
