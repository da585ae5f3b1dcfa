"""What makes a comparison say less than it seems to: rows that no seed changes, dropout that nobody asked for."""

from collections.abc import Iterator, Mapping

from service.domain.datasets import Dataset
from service.domain.spec import NetworkSpec
from service.domain.splits import part_named
from service.domain.training_spec import TrainingSpec
from service.domain.wording import listed, shown


def warnings_of(
    asked: Mapping[str, NetworkSpec], completed: Mapping[str, NetworkSpec], training: TrainingSpec, dataset: Dataset
) -> Iterator[str]:
    """Warn of arms as they were asked for and as they came out, and of the completed training that they share."""
    yield from _same_rows(training, dataset)
    yield from _different_dropout(asked, completed)


def _same_rows(training: TrainingSpec, dataset: Dataset) -> Iterator[str]:
    """Say which parts are the same with every seed."""
    alone = "so what the seeds show is chance in the start, the order of the rows and dropout, not that of other rows"
    if training.split in ("order", "time"):
        yield f"the split {shown(training.split)} takes the same rows for every part with every seed, {alone}"
    elif training.split == "column":
        parts = "every part" if _names_validation(training, dataset) else "the test part"
        yield f"column {shown(training.split_column)} names the same rows for {parts} with every seed, {alone}"
    elif training.test_fraction is None and dataset.official_test_rows:
        test = "every seed is measured on the same test rows, the data set's own"
        yield f"{test}, {alone}; a training.test_fraction draws others with each"


def _names_validation(training: TrainingSpec, dataset: Dataset) -> bool:
    column = dataset.column(training.split_column or "")
    named = any(part_named(cell) == "validation" for cell, _ in column.top) if column else False
    return named or training.validation_fraction == 0


def _different_dropout(asked: Mapping[str, NetworkSpec], completed: Mapping[str, NetworkSpec]) -> Iterator[str]:
    """Say where the default of the kind of network, and not the user, gave arms different dropout."""
    rates = {name: completed[name].dropout or 0.0 for name, network in asked.items() if network.dropout is None}
    if len(set(rates.values())) > 1:
        most = max(rates.values())
        with_it = [name for name, rate in rates.items() if rate == most]
        without = [name for name, rate in rates.items() if rate != most]
        detail = f"dropout was left open, and became {most:g} in {listed(with_it)}, but 0 in {listed(without)}"
        yield f"{detail}: what they differ in may be the dropout; say it in every arm"
