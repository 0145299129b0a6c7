"""PPO of the command ``agents``: advantages, loss, actors, and that it learns."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.arms import make_method
from experiments.models.actor_critic import ActorCritic
from experiments.studies.agents.acting import act, begin
from experiments.studies.agents.ask import Config
from experiments.studies.agents.environments import Environment, Outcome, load_environment
from experiments.studies.agents.learn import Learner, make_training
from experiments.studies.agents.ppo import Examples, advantages, loss

# --------------------------------------------------------------------------------------------------
# Advantages
# --------------------------------------------------------------------------------------------------


def advantages_in_a_loop(rewards, values, following, terminated, truncated, discount, trace):
    """The sum of discounted surprises, written out: to the end of the episode or of what is known.

    Schulman et al., arXiv 1506.02438, eq. 16.
    """
    steps, actors = rewards.shape
    found = np.zeros((steps, actors))
    for actor in range(actors):
        for start in range(steps):
            for step in range(start, steps):
                future = 0.0 if terminated[step, actor] else discount * following[step, actor]
                surprise = rewards[step, actor] + future - values[step, actor]
                found[start, actor] += (discount * trace) ** (step - start) * surprise
                if terminated[step, actor] or truncated[step, actor]:
                    break
    return found


@pytest.mark.parametrize(("discount", "trace"), [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_advantages_are_those_of_a_loop(discount, trace):
    generator = np.random.default_rng(0)
    rewards, values, following = generator.normal(size=(3, 30, 4))
    terminated, truncated = generator.random((2, 30, 4)) < 0.15
    assert (terminated & truncated).any(), "also both at once"
    arguments = rewards, values, following, terminated, truncated
    found = advantages(*map(jnp.array, arguments), discount=discount, trace=trace)
    expected = advantages_in_a_loop(*arguments, discount, trace)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_episode_cut_off_by_the_time_limit_is_worth_what_would_have_followed():
    rewards, values, following = (jnp.full((2, 1), value) for value in (1.0, 2.0, 10.0))
    ends, goes_on = jnp.array([[True], [False]]), jnp.zeros((2, 1), bool)
    rates = {"discount": 0.5, "trace": 0.5}
    cut_off = advantages(rewards, values, following, goes_on, ends, **rates)
    over = advantages(rewards, values, following, ends, goes_on, **rates)
    np.testing.assert_allclose(cut_off[:, 0], [1 + 0.5 * 10 - 2, 4.0])
    np.testing.assert_allclose(over[:, 0], [1 - 2, 4.0])


# --------------------------------------------------------------------------------------------------
# Loss
# --------------------------------------------------------------------------------------------------

WEIGHTS = {"clip": 0.2, "value_weight": 0.5, "entropy_weight": 0.01}


def make_examples(old, advantage, target):
    return Examples(
        observation=jnp.zeros((len(old), 1)),
        action=jnp.zeros(len(old), jnp.int32),
        log_probability=jnp.log(jnp.array(old)),
        advantage=jnp.array(advantage),
        target=jnp.array(target),
    )


def test_the_loss_by_hand():
    # Two actions at even odds; the first was taken, with 0.25 and 0.5: ratios of 2 and 1.
    examples = make_examples([0.25, 0.5], [3.0, 1.0], [1.0, 0.0])
    found = loss(jnp.zeros((2, 2)), jnp.array([3.0, 1.0]), examples, **WEIGHTS)
    gain = (1.2 * 1 + 1 * -1) / 2  # advantages of mean 0 and deviation 1; 2 is clipped to 1.2
    error = (2**2 + 1**2) / 2 / 2
    np.testing.assert_allclose(found, -gain + 0.5 * error - 0.01 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("old", "advantage", "moves"),
    [
        (0.25, 1.0, False),  # the ratio of 2 was raised enough
        (0.25, -1.0, True),  # and must come down
        (0.8, 1.0, True),  # the ratio of 0.625 must come up
        (0.8, -1.0, False),  # and was lowered enough
    ],
)
def test_a_ratio_beyond_the_clip_gives_no_gradient_only_where_it_has_gained(old, advantage, moves):
    # The second example, at a ratio of 1, makes the advantages -1 and 1; its action is likelier.
    examples = make_examples([old, 0.5], [advantage, -advantage], [0.0, 0.0])

    def of_first(logits):
        both = jnp.stack([logits, jnp.zeros(2)])
        return loss(both, jnp.zeros(2), examples, clip=0.2, value_weight=0.0, entropy_weight=0.0)

    slope = jax.grad(of_first)(jnp.zeros(2))
    assert bool(slope.any()) == moves
    if moves:
        assert np.sign(slope[0]) == -np.sign(advantage)


# --------------------------------------------------------------------------------------------------
# Actors
# --------------------------------------------------------------------------------------------------


class Walk(NamedTuple):
    """Counts steps from a random start; all ints."""

    start: jax.Array
    taken: jax.Array


def make_walk():
    """Each step returns 1; action 1 ends the episode, and 3 steps cut it off."""

    def observe(walk):
        return jnp.array([walk.start, walk.taken], float)

    def reset(key):
        walk = Walk(jax.random.randint(key, (), 10, 1000), jnp.int32(0))
        return walk, observe(walk)

    def step(key, walk, action):
        moved = walk._replace(taken=walk.taken + 1)
        over, cut_off = action == 1, moved.taken >= 3
        again, first = reset(key)
        ended = over | cut_off
        state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), again, moved)
        seen = jnp.where(ended, first, observe(moved))
        return Outcome(state, seen, jnp.float32(1), observe(moved), over, cut_off)

    return Environment(reset, step, actions=2)


def test_actors_keep_what_was_seen_before_a_new_episode_and_what_it_returned():
    walk, key = make_walk(), jax.random.key(0)
    actors = begin(walk, key, 2, lowest=-7.0)
    assert actors.latest.tolist() == [-7.0, -7.0]
    assert actors.observation[0, 0] != actors.observation[1, 0], "each has its own start"

    def policy(observation):  # the first two steps go on, what follows is drawn
        likely = jnp.where(observation[:, 1] < 1, -50.0, 0.0)
        return jnp.stack([jnp.zeros(2), likely], axis=1)

    after, seen = act(walk, policy, actors, key, 50)
    length = np.zeros(2)
    latest = np.full(2, -7.0)
    for step in range(50):
        np.testing.assert_array_equal(seen.observation[step, :, 1], length)
        length += 1
        np.testing.assert_array_equal(seen.final[step, :, 1], length)
        np.testing.assert_array_equal(seen.final[step, :, 0], seen.observation[step, :, 0])
        np.testing.assert_array_equal(seen.terminated[step], seen.action[step] == 1)
        np.testing.assert_array_equal(seen.truncated[step], length == 3)
        ended = np.array(seen.terminated[step] | seen.truncated[step])
        latest = np.where(ended, length, latest)
        np.testing.assert_array_equal(seen.latest[step], latest)
        length = np.where(ended, 0, length)
        new = np.append(seen.observation, after.observation[None], axis=0)[step + 1, :, 0]
        assert ((new != seen.observation[step, :, 0]) == ended).all(), "a new start"
    assert set(latest) <= {2.0, 3.0}
    assert {True, False} == set(np.unique(seen.terminated)) == set(np.unique(seen.truncated))
    np.testing.assert_array_equal(after.so_far, length)
    logits = jax.vmap(policy)(seen.observation)
    expected = np.take_along_axis(jax.nn.log_softmax(logits), seen.action[..., None], axis=-1)
    np.testing.assert_allclose(seen.log_probability, expected[..., 0], rtol=1e-6)


def test_cartpole_says_where_it_was_cut_off_and_begins_anew():
    environment = load_environment("CartPole-v1")
    state, _ = environment.reset(jax.random.key(0))
    key, action = jax.random.key(1), jnp.int32(1)
    out = environment.step(key, state.replace(time=498), action)
    assert not out.truncated
    assert not out.terminated
    np.testing.assert_array_equal(out.final, out.observation)
    cut_off = environment.step(key, state.replace(time=499), action)
    assert cut_off.truncated
    assert not cut_off.terminated
    assert cut_off.state.time == 0
    np.testing.assert_array_equal(cut_off.final, out.final)
    assert (cut_off.observation != cut_off.final).all()
    fallen = environment.step(key, state.replace(theta=0.2, theta_dot=2.0), action)
    assert fallen.terminated
    assert not fallen.truncated
    assert fallen.reward == 1


def test_examples_are_what_was_seen_with_advantages_and_targets_of_the_same_step():
    walk, key, config = make_walk(), jax.random.key(0), Config().completed()
    network = ActorCritic((8,), walk.actions)
    actors = begin(walk, key, 3, lowest=0.0)
    params = network.init(key, actors.observation)
    _, seen = act(walk, lambda o: network.apply(params, o)[0], actors, key, 20)
    found = Learner(config, network, make_method("adam", "plain", 1e-3)).examples(params, seen)
    values, following = (network.apply(params, o)[1] for o in (seen.observation, seen.final))
    expected = advantages_in_a_loop(
        *map(np.array, (seen.reward, values, following, seen.terminated, seen.truncated)),
        config.discount,
        config.trace,
    )
    np.testing.assert_allclose(found.advantage.reshape(20, 3), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.target, found.advantage + values.ravel(), rtol=1e-5)
    np.testing.assert_array_equal(found.observation.reshape(20, 3, -1), seen.observation)
    np.testing.assert_array_equal(found.action.reshape(20, 3), seen.action)
    np.testing.assert_array_equal(found.log_probability.reshape(20, 3), seen.log_probability)


# --------------------------------------------------------------------------------------------------
# Learning
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cartpole():
    return load_environment("CartPole-v1")


def returns(environment, arm, updates, **changes):
    config = dataclasses.replace(Config(updates=updates).completed(), **changes)
    seeds, rates = jnp.arange(4), jnp.full(4, config.usual_rate)
    return jax.device_get(make_training(config, environment, arm)(seeds, rates))


def test_an_agent_learns_to_balance(cartpole):
    found = returns(cartpole, "plain", updates=15).returns
    assert (found[:, 0] < 30).all(), "drawn at random, actions keep the pole up for about 20 steps"
    assert found[:, -1].mean() > 150
    assert (found.mean(axis=1) > 60).all()


def test_without_horizon_an_arm_is_plain_bit_for_bit(cartpole):
    small = {"hidden": (8,), "actors": 2, "steps": 16, "epochs": 2, "minibatches": 2}
    plain, still, ahead = (
        returns(cartpole, arm, updates=3, **small) for arm in ("plain", "s=0", "s=1")
    )
    jax.tree.map(np.testing.assert_array_equal, plain, still)
    pairs = zip(jax.tree.leaves(plain.params), jax.tree.leaves(ahead.params), strict=True)
    assert not any(np.array_equal(*pair) for pair in pairs), "prediction moves all weights"
    np.testing.assert_array_equal(plain.returns[:, 0], ahead.returns[:, 0])
