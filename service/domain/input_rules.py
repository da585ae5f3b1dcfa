"""Rules about what goes into the network and what it is to answer, measured on the data."""

from service.domain.findings import Finding, InputFacts
from service.domain.spec import JobSpec, NetworkSpec
from service.domain.wording import listed, shown

FAR = 10.0
"""An input so many standard deviations from the mean is no sample of anything like a normal distribution."""
MANY_FEATURES = 1000
"""A longer list of features is not written out for a fix, which is stored with every job."""
MANY_CONSTANTS = 0.05
"""This part of the inputs, if constant, lowers the variance of what the first layer takes by as much."""


def standardized_inputs(network: NetworkSpec, inputs: InputFacts) -> Finding:
    """Say what the first layer takes where inputs are not standardized."""
    if network.standardize:
        return Finding(
            "standardized_inputs", "pass", "every input has mean 0 and standard deviation 1 on the training rows"
        )
    if inputs.mean is None or inputs.variance is None:
        detail = "inputs are not standardized, and POST /probe can say what they are; set network.standardize to true"
        return Finding("standardized_inputs", "fail", detail, fix={"#/network/standardize": True})
    moment = inputs.mean**2 + inputs.variance
    detail = (
        f"inputs are not standardized: mean {inputs.mean:.3g}, variance {inputs.variance:.3g} over all, so that "
        f"the first layer takes a second moment of {moment:.3g} where 1 is wanted"
    )
    return Finding("standardized_inputs", "fail", detail, moment, fix={"#/network/standardize": True})


def constant_inputs(spec: JobSpec, inputs: InputFacts) -> Finding:
    """Look for features that never change."""
    constants = inputs.constants
    if not constants:
        return Finding("constant_inputs", "pass", f"no feature is known to be constant{_known_from(inputs)}", 0.0)
    said = f"{len(constants)} feature(s) never change, which no scale makes variance 1 of: {listed(list(constants))}"
    gone = set(constants)
    left = [name for name in spec.features or () if name not in gone]
    fix = {"#/features": left} if 0 < len(left) <= MANY_FEATURES else None
    share = len(constants) / max(1, inputs.width)
    detail = f"{said}. They are 0 for the network, which lowers the variance of what the first layer takes"
    return Finding(
        "constant_inputs",
        "warn" if share > MANY_CONSTANTS else "pass",
        detail,
        float(len(constants)),
        fix=fix if share > MANY_CONSTANTS else None,
    )


def heavy_tails(spec: JobSpec, inputs: InputFacts) -> Finding:
    """Look for values far from their mean."""
    if inputs.farthest is None:
        return Finding("heavy_tails", "pass", f"nothing is known of far values{_known_from(inputs)}")
    where = "" if inputs.farthest_feature is None else f" ({shown(inputs.farthest_feature)})"
    said = f"the farthest value lies {inputs.farthest:.3g} standard deviations from its mean{where}"
    if inputs.farthest <= FAR:
        return Finding("heavy_tails", "pass", said, inputs.farthest)
    if spec.preparation.numeric != "standard":
        detail = f"{said}, before preparation.numeric {spec.preparation.numeric!r} bends it"
        return Finding("heavy_tails", "pass", detail, inputs.farthest)
    detail = f"{said}: a row with it leaves the domain in the first layer. Bend it with preparation.numeric"
    fix = {"#/preparation/numeric": "quantile"}
    return Finding(
        "heavy_tails", "warn", detail, inputs.farthest, "Gorishniy et al. 2021 (quantile-normalized inputs)", fix=fix
    )


def one_hot_inputs(inputs: InputFacts) -> Finding:
    """Look at rare categories, which standardization makes large."""
    share = inputs.one_hot / max(1, inputs.width)
    if not inputs.one_hot:
        return Finding("one_hot_inputs", "pass", "no feature is spread over columns of 0 and 1", 0.0)
    said = f"{inputs.one_hot} of {inputs.width} inputs are 0 or 1 and stand for categories"
    if inputs.rarest is None:
        return Finding("one_hot_inputs", "pass", f"{said}; how rare they are is not known", share)
    peak = ((1 - inputs.rarest) / max(inputs.rarest, 1e-9)) ** 0.5
    said = f"{said}; the rarest, in {inputs.rarest:.2%} of the rows, is {peak:.3g} once standardized"
    if peak <= FAR:
        return Finding("one_hot_inputs", "pass", said, share)
    detail = (
        f"{said}, far outside of what the theorems take; a lower preparation.max_categories lets rare ones share one"
    )
    return Finding("one_hot_inputs", "warn", detail, share)


def _known_from(inputs: InputFacts) -> str:
    return (
        " from its rows"
        if inputs.source == "rows"
        else " from the data set's description; POST /probe looks at the rows"
    )


def output_head(inputs: InputFacts, classes: int | None) -> Finding:
    """Look at the output layer and a regression's far targets."""
    if classes is not None:
        return Finding(
            "output_head",
            "pass",
            f"{classes} logits from LeCun normal weights, softmax and cross-entropy",
            float(classes),
        )
    far = inputs.target_farthest
    said = "one linear output that starts at 0, the mean of the standardized target"
    if far is None or far <= FAR:
        return Finding("output_head", "pass", said, far)
    detail = f"{said}; but a target lies {far:.3g} standard deviations from the mean, and its square outweighs others"
    return Finding("output_head", "warn", detail, far, "squared error")
