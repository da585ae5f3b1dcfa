"""What the protocols' requests and answers look like, for the OpenAPI document; nothing is validated with these."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

JsonValue = str | int | float | bool | None
Parameters = dict[str, str | int | float | bool]


class Described(BaseModel):
    """Base of every description."""

    model_config = ConfigDict(protected_namespaces=())


class ErrorTextView(Described):
    """An error, as TensorFlow Serving and the Open Inference Protocol have it."""

    error: str


class MlflowErrorView(Described):
    """An error, as MLflow's scoring server has it."""

    error_code: str
    message: str


class ServerMetadataView(Described):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class LiveView(Described):
    """The process answers."""

    live: Literal[True] = True


class ReadyView(Described):
    """Whether models can be served."""

    ready: bool


class ModelReadyView(Described):
    """A model that can be asked."""

    name: str
    ready: Literal[True] = True


class TensorMetadataView(Described):
    """A tensor that a model takes or gives; -1 is any number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadataView(Described):
    """A model as tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadataView]
    outputs: list[TensorMetadataView]


class InferInputView(Described):
    """A tensor: its cells are in `data`, or, with the parameter `binary_data_size`, after the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] = []


class InferOutputView(Described):
    """A wanted output, with the parameters `binary_data` and `classification`."""

    name: str
    parameters: Parameters = {}


class InferRequestView(Described):
    """A request; with no outputs named, all come, as binary where the parameter `binary_data_output` is true."""

    id: str = ""
    parameters: Parameters = {}
    inputs: list[InferInputView]
    outputs: list[InferOutputView] = []


class InferResultView(Described):
    """An output: its cells are in `data`, or, with the parameter `binary_data_size`, after the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}
    data: list[JsonValue] = []


class InferResponseView(Described):
    """An answer; the parameter `warnings` says what was odd about the rows."""

    id: str = ""
    model_name: str
    model_version: str
    parameters: Parameters = {}
    outputs: list[InferResultView]


class IndexRequestView(Described):
    """Which versions are listed: all, or those that can be asked."""

    ready: bool = False


class IndexEntryView(Described):
    """A version in the repository; a model whose versions have all been deleted has none."""

    name: str
    version: str = ""
    state: str = ""


class DurationView(Described):
    """How often something was done, and how long it took in all."""

    count: int
    ns: int


class InferenceStatsView(Described):
    """Where the time went."""

    success: DurationView
    fail: DurationView
    queue: DurationView
    compute_input: DurationView
    compute_infer: DurationView
    compute_output: DurationView
    cache_hit: DurationView
    cache_miss: DurationView


class ModelStatsView(Described):
    """What a version has answered; `last_inference` is in milliseconds since 1970."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatsView
    response_stats: dict[str, Any]
    batch_stats: list[Any]
    memory_usage: list[Any]


class StatisticsView(Described):
    """What versions have answered."""

    model_stats: list[ModelStatsView]


class PredictBody(Described):
    """Rows: either `instances`, row by row, or `inputs`, column by column."""

    signature_name: str = "serving_default"
    instances: list[Any] = []
    inputs: list[Any] | dict[str, Any] = []


class PredictionsView(Described):
    """Answers row by row to `instances`, or as a whole to `inputs`."""

    predictions: list[Any] = []
    outputs: list[Any] = []


class ExamplesBody(Described):
    """Rows as objects of features; `context` holds the features that are the same in all."""

    signature_name: str = "serving_default"
    context: dict[str, Any] = {}
    examples: list[dict[str, Any]]


class ResultsView(Described):
    """For each row its classes with their probabilities, or its number."""

    results: list[Any]


class StatusTextView(Described):
    """How a version is."""

    error_code: Literal["OK"] = "OK"
    error_message: str = ""


class VersionStatusView(Described):
    """A version that can be asked."""

    version: str
    state: Literal["AVAILABLE"] = "AVAILABLE"
    status: StatusTextView


class ModelStatusView(Described):
    """The versions of a model, newest first."""

    model_version_status: list[VersionStatusView]


class ModelSpecView(Described):
    """Which version it is."""

    name: str
    signature_name: str
    version: str


class SignaturesView(Described):
    """The signatures of a version."""

    signature_def: dict[str, Any]


class SignatureMetadataView(Described):
    """What is known of a version."""

    signature_def: SignaturesView


class ServableMetadataView(Described):
    """A version as signatures."""

    model_spec: ModelSpecView
    metadata: SignatureMetadataView


class DataFrameSplitView(Described):
    """A table as column names and rows."""

    columns: list[str | int] = []
    index: list[Any] = []
    data: list[list[JsonValue]]


class InvocationsBody(Described):
    """Rows: exactly one of `instances`, `inputs`, `dataframe_split` and `dataframe_records`."""

    instances: list[Any] = []
    inputs: list[Any] | dict[str, Any] = []
    dataframe_split: DataFrameSplitView | None = None
    dataframe_records: list[dict[str, JsonValue]] = []
    params: dict[str, Any] = {}


class InvocationsView(Described):
    """Answers in the order of the rows: numbers, or labels."""

    predictions: list[JsonValue]
    warnings: list[str] = []


def json_body(model: type[BaseModel], others: dict[str, Any] | None = None, *, required: bool = True) -> dict[str, Any]:
    """Return what OpenAPI says of a body that the route reads itself; ``others`` are media types beside JSON."""
    content = {"application/json": {"schema": inline(model)}, **(others or {})}
    return {"requestBody": {"required": required, "content": content}}


def inline(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a model with those of its parts in it."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})
    inlined: dict[str, Any] = _inlined(schema, parts)
    return inlined


def _inlined(value: Any, parts: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if reference := value.get("$ref"):
            return _inlined(parts[reference.rsplit("/", 1)[1]], parts)
        return {name: _inlined(item, parts) for name, item in value.items()}
    return [_inlined(item, parts) for item in value] if isinstance(value, list) else value
