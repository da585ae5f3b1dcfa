from service.domain.training_errors import (
    TrainingDiverged,
    TrainingFailed,
    UnusableClassWeights,
    UnusableSampleWeights,
    UnusableState,
)


def test_diverged_training_says_where_what_and_what_to_do() -> None:
    found, advice = "dense_5 gave infinite activations", "The learning rate 10 is probably too high: try 0.7 or less"
    error = TrainingDiverged(3, 17, "dense_5", found, advice)
    assert (error.code, error.epoch, error.step, error.layer) == ("training_diverged", 3, 17, "dense_5")
    assert str(error) == f"the loss was not finite in epoch 3, step 17: {found}. {advice}"
    unknown = TrainingDiverged(3, None, None, found, advice)
    assert str(unknown) == f"the loss was not finite in epoch 3: {found}. {advice}"


def test_unknown_class_is_named_with_the_known_ones() -> None:
    error = UnusableClassWeights("maybe", ["no", "yes"])
    assert (error.code, error.name, error.classes) == ("unusable_class_weights", "maybe", ("no", "yes"))
    assert str(error) == "class_weights names 'maybe'; the classes are 'no', 'yes'. Name these, or leave it out"
    many = UnusableClassWeights("x" * 1000, [str(number) for number in range(1_020)])
    assert "'19' and 1,000 more" in str(many)
    assert len(str(many)) < 300


def test_unusable_weights_and_states_say_the_problem() -> None:
    weights = UnusableSampleWeights("has a negative cell in row 3")
    assert weights.code == "unusable_sample_weights"
    assert "the sample weight column has a negative cell in row 3; mend" in str(weights)
    state = UnusableState("it is of another network")
    assert state.code == "unusable_state"
    assert str(state) == "the saved state cannot be continued: it is of another network; start the training anew"
    assert isinstance(weights, TrainingFailed)
    assert isinstance(state, TrainingFailed)
