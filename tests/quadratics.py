"""Random settings of the quadratic model, for its tests."""

from typing import NamedTuple

from hypothesis import strategies as st


class Setting(NamedTuple):
    """What the model is a function of."""

    curvature: float
    learning_rate: float
    s: float
    momentum: float
    weight_decay: float


DECAYS = st.floats(0, 0.5)  # γλ
NO_DECAY, POSITIVE = st.just(0.0), st.just(1.0)


def settings(decays=NO_DECAY, signs=POSITIVE):
    """Settings around the limit: where both the optimizer and rounding behave."""

    def make(share, gamma, s, mu, decay, sign):
        h = sign * share * 2 * (1 + mu) / (gamma * (1 + 2 * s))
        return Setting(h, gamma, s, mu, decay / gamma)

    share, gamma, mu = st.floats(0.01, 1.2), st.floats(1e-3, 1.0), st.floats(0.01, 0.98)
    return st.builds(make, share, gamma, st.floats(0, 6), mu, decays, signs)
