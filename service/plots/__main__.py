"""``python -m service.plots FOLDER``: write the figures of the documentation."""

import sys
from pathlib import Path

from service.plots.figures import render
from service.plots.functions import elu_and_selu, logistic, moment_map
from service.plots.initial_weights import initial_weights

EXPLANATORY = (logistic, elu_and_selu, initial_weights, moment_map)


def main(folder: Path) -> None:
    """Write every explanatory figure as NAME.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in EXPLANATORY:
        (folder / f"{draw.__name__}.svg").write_bytes(render(draw(), "svg"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/figures"))
