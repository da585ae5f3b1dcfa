"""What HTTP shows of the layers of a network: looked at while it trains, and probed before."""

from typing import TYPE_CHECKING, Any

from service.api.views.base import View
from service.api.views.verdicts import FindingView, VerdictView
from service.domain.diagnostics import Diagnosis, Histogram
from service.domain.signal import Signal

if TYPE_CHECKING:
    # At run time these would load SQLAlchemy, which clients that read these views may not have.
    from service.use_cases.diagnostics import JobDiagnostics
    from service.use_cases.probe import Probed


class LayerView(View):
    """One hidden layer on the probe rows, without dropout; a number that is not finite is null."""

    layer: int
    units: int
    mean: float | None
    variance: float | None
    predicted_mean: float | None
    """What the moment map gives, iterated from the moments of the input rows."""
    predicted_variance: float | None
    tau: float | None
    tau_max: float | None
    omega: float | None
    bias: float | None
    """Mean over units of the squared bias."""
    weight_norm: float | None
    gradient_norm: float | None
    gradient_ratio: float | None
    """Of the gradients by the pre-activations of this and of the last hidden layer."""
    update_ratio: float | None
    """Norm of the epoch's last step against that of the weights."""
    dead: float | None
    """Part of the units that no row moves."""


class HistogramView(View):
    """Counts in equal bins from ``low`` to ``high``; the first and the last hold what lies beyond, too."""

    low: float
    high: float
    counts: list[int]

    @classmethod
    def of(cls, histogram: Histogram) -> "HistogramView":
        """Show a histogram."""
        return cls(low=histogram.low, high=histogram.high, counts=list(histogram.counts))


class DiagnosisView(View):
    """Every hidden layer after an epoch; 0 is the untrained network."""

    epoch: int
    layers: list[LayerView]
    weights: list[HistogramView] | None
    activations: list[HistogramView] | None

    @classmethod
    def of(cls, diagnosis: Diagnosis, *, histograms: bool) -> "DiagnosisView":
        """Show a diagnosis, with its histograms where they are asked for."""
        weights, activations = (
            [HistogramView.of(one) for one in kind] if histograms else None
            for kind in (diagnosis.histograms.weights, diagnosis.histograms.activations)
        )
        layers = [LayerView(**layer) for layer in diagnosis.layers_to_json()]
        return cls(epoch=diagnosis.epoch, layers=layers, weights=weights, activations=activations)


class DiagnosticsView(View):
    """Everything that was seen of a job's network: the lint before, the layers after its epochs, the verdict."""

    lint: list[FindingView] | None
    """Null for jobs from before there was a lint."""
    verdict: VerdictView | None
    items: list[DiagnosisView]

    @classmethod
    def of(cls, found: "JobDiagnostics", *, histograms: bool) -> "DiagnosticsView":
        """Show what was seen."""
        return cls(
            lint=None if found.lint is None else [FindingView(**finding) for finding in found.lint],
            verdict=VerdictView.of(found.verdict),
            items=[DiagnosisView.of(diagnosis, histograms=histograms) for diagnosis in found.diagnoses],
        )


class SignalLayerView(View):
    """What is predicted of one hidden layer from the spec alone."""

    layer: int
    tau: float
    mean: float
    variance: float


class SignalView(View):
    """What is predicted of an untrained network."""

    status: str
    layer: int | None
    """The hidden layer in which the signal dies."""
    gradient_ratio: float
    horizon: int | None
    """Over how many hidden layers the signal lives; null where it does for 256."""
    detail: str
    layers: list[SignalLayerView]

    @classmethod
    def of(cls, signal: Signal) -> "SignalView":
        """Show a prediction."""
        layers = [
            SignalLayerView(layer=layer.layer, tau=layer.tau, mean=layer.mean, variance=layer.variance)
            for layer in signal.layers
        ]
        values: dict[str, Any] = {
            name: getattr(signal, name) for name in ("status", "layer", "gradient_ratio", "horizon", "detail")
        }
        return cls(**values, layers=layers)


class ProbeView(View):
    """The untrained network on real rows."""

    rows: int
    """On how many rows the layers were looked at."""
    read_rows: int
    """On how many rows encoders and standardization were fitted."""
    inputs: int
    verdict: VerdictView
    prediction: SignalView
    layers: list[LayerView]
    lint: list[FindingView]
    seconds: float

    @classmethod
    def of(cls, probed: "Probed") -> "ProbeView":
        """Show what a probe found."""
        verdict = VerdictView.of(probed.verdict.to_dict())
        assert verdict is not None
        return cls(
            rows=probed.rows,
            read_rows=probed.read_rows,
            inputs=probed.inputs,
            verdict=verdict,
            prediction=SignalView.of(probed.signal),
            layers=[LayerView(**layer) for layer in probed.diagnosis.layers_to_json()],
            lint=[FindingView.of(finding) for finding in probed.findings],
            seconds=probed.seconds,
        )
