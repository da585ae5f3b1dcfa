"""What is wrong with a request about a model, its versions, aliases and files, one class per fact.

InvalidInput
└── NotTrainedWithDropout   a version that has no random samples to give
NotFound
├── UnknownModel            NoVersionLeft
└── UnknownVersion, UnknownAlias, FileNotKept
Conflict
└── ModelNotReady, VersionHasAliases, VersionInUse, NothingToGoBackTo
"""

from collections.abc import Sequence

from service.domain.errors import Conflict, InvalidInput, NotFound, Violation


class UnknownModel(NotFound):
    """No model has this name."""

    code = "unknown_model"

    def __init__(self, name: str) -> None:
        super().__init__(f"no model is named {name[:64]!r}; GET /models lists them")


class NoVersionLeft(UnknownModel):
    """The model is known, and every version of it has been deleted."""

    code = "no_version_left"

    def __init__(self, name: str) -> None:
        NotFound.__init__(
            self, f'every version of model {name!r} has been deleted; a new job with "model": "{name}" adds one'
        )


class UnknownVersion(NotFound):
    """The model has no such version."""

    code = "unknown_version"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"model {name!r} has no version {version}; GET /models/{name} lists its versions")


class UnknownAlias(NotFound):
    """The model has no such alias."""

    code = "unknown_alias"

    def __init__(self, name: str, alias: str, known: Sequence[str] = ()) -> None:
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        others = f"its aliases are {', '.join(known[:10])}{more}" if known else "it has none"
        super().__init__(
            f"model {name!r} has no alias {alias[:64]!r}; {others}. PUT /models/{name}/aliases/NAME sets one; "
            "a version's number, or neither of the two for the default, does as well"
        )


class FileNotKept(NotFound):
    """The version was registered before files of this kind were kept."""

    code = "file_not_kept"

    def __init__(self, name: str, version: int, file: str) -> None:
        super().__init__(
            f"version {version} of model {name!r} was registered before {file} was kept, and it cannot be made from "
            "what is stored; model.onnx and encoder.json are there. Train it again to have one"
        )


class ModelNotReady(Conflict):
    """The first version of this model is still being trained."""

    code = "model_not_ready"

    def __init__(self, name: str, job_id: str, state: str) -> None:
        super().__init__(
            f"model {name!r} has no version yet: its job {job_id} is {state}; wait with GET /jobs/{job_id}?wait=30"
        )


class VersionHasAliases(Conflict):
    """Aliases stand for this version, so it cannot be deleted."""

    code = "version_has_aliases"

    def __init__(self, name: str, version: int, aliases: Sequence[str]) -> None:
        super().__init__(
            f"version {version} of model {name!r} is what {', '.join(aliases[:10])} stands for; set the alias to "
            "another version or remove it, then delete the version"
        )


class VersionInUse(Conflict):
    """Predictions that have not ended need this version."""

    code = "version_in_use"

    def __init__(self, name: str, version: int, jobs: int) -> None:
        super().__init__(
            f"{jobs} unfinished prediction(s) need version {version} of model {name!r}; cancel them or wait, "
            "then delete it"
        )


class NothingToGoBackTo(Conflict):
    """The alias stood for no other version before, or for none that still exists."""

    code = "nothing_to_go_back_to"

    def __init__(self, name: str, alias: str, version: int | None) -> None:
        now = "has been removed" if version is None else f"stands for version {version}"
        super().__init__(
            f"alias {alias!r} of model {name!r} {now}, and no version that it stood for before is left; "
            f"PUT /models/{name}/aliases/{alias} sets it to any version"
        )


class NotTrainedWithDropout(InvalidInput):
    """The uncertainty of a network is measured with the dropout that it was trained with; this one had none."""

    code = "not_trained_with_dropout"

    def __init__(self, name: str, version: int) -> None:
        detail = (
            f"cannot be had of version {version} of model {name!r}: its network was trained without dropout, so that "
            "every sample would be the same. Leave the field out, or train a network with "
            '"dropout" above 0, such as 0.05'
        )
        super().__init__([Violation("#/uncertainty", detail)])
