import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.analysis.noise import noise_of

shares = st.lists(st.floats(0, 1), max_size=5)


@pytest.mark.parametrize(
    ("canary", "stable", "is_noise"),
    [
        ([0.23], [0.01], True),
        ([0.05], [0.0], True),
        ([0.049], [0.0], False),  # too little to be felt
        ([0.10], [0.05], True),
        ([0.07], [0.03], False),  # less than 5 points more
        ([0.30], [0.20], False),  # less than twice as much: both are slowed
        ([0.40], [0.20], True),
        ([0.4, 0.0, 0.0, 0.0], [0.01], True),  # one of four nodes, 10 % of the canary's CPU time
        ([0.01], [0.4], False),  # stable's nodes suffer: the canary has no excuse
        ([0.4], [], False),  # nothing to compare with
        ([], [0.0], False),
        ([], [], False),
    ],
)
def test_stolen_cpu_time_is_noise_only_where_the_canary_has_clearly_more_of_it(
    canary: list[float], stable: list[float], is_noise: bool
) -> None:
    assert bool(noise_of(canary, stable, "")) is is_noise


def test_the_cause_names_both_figures_and_everything_that_disturbs() -> None:
    stolen = "CPU steal on the canary's nodes 23 % against 1 % on stable's"

    assert noise_of([0.22, 0.24], [0.01], "") == stolen
    assert noise_of([0.23], [0.01], "the control plane does not converge") == (
        f"{stolen} and the control plane does not converge"
    )
    assert noise_of([], [], "the control plane does not converge") == "the control plane does not converge"
    assert noise_of([0.2], [0.0], "") == "CPU steal on the canary's nodes 20 % against 0 % on stable's"


@given(shares, shares)
def test_the_same_nodes_are_never_noise_and_never_both_ways(canary: list[float], stable: list[float]) -> None:
    assert noise_of(canary, canary, "") == ""
    assert not (noise_of(canary, stable, "") and noise_of(stable, canary, ""))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        noise_of([0.1], [share], "")
