"""What docs/data.md says of its example is what happens."""

import re
import tempfile
from pathlib import Path

import pytest

from service.domain.completion import complete_spec
from service.domain.datasets import Dataset
from service.domain.limits import Limits, TableLimits
from service.domain.spec import JobSpec
from service.tables import parquet
from service.tables.importer import ImportRequest, import_table
from tests.factories import make_dataset
from workers.preparation import prepare

DOCUMENT = Path(__file__).parents[2] / "docs/data.md"


@pytest.fixture
def example() -> tuple[bytes, list[str]]:
    found = re.search(r"example:begin.*?```csv\n(.*?)```(.*?)each with mean", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found.group(1).encode(), re.findall(r"`([^`]+)`", found.group(2))


def test_example_becomes_the_columns_that_it_says(example: tuple[bytes, list[str]]) -> None:
    content, columns = example
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output:
        source.write(content)
        source.flush()
        imported = import_table(source, output, ImportRequest("csv"), TableLimits())
        output.seek(0)
        table = parquet.decode(output.read())
    dataset: Dataset = make_dataset(*imported.columns, rows=imported.rows, report=imported.report)
    asked = {"dataset": "d1", "target": "price", "task": "regression", "training": {"validation_fraction": 0}}
    spec = complete_spec(JobSpec.model_validate(asked), dataset, Limits()).spec
    described = {column.name: column for column in dataset.columns}
    assert list(prepare(spec, table, described).inputs.encoded) == columns
