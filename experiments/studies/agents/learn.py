"""A whole training by PPO as one program: a scan over updates, all runs side by side."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from experiments.arms import Method, make_method
from experiments.models.actor_critic import ActorCritic
from experiments.studies.agents.acting import Seen, act, begin
from experiments.studies.agents.ask import Config
from experiments.studies.agents.environments import Environment
from experiments.studies.agents.ppo import Examples, advantages, loss
from experiments.task import Gradient
from experiments.training.step import step as train_step


class Learnt(NamedTuple):
    """What a training leaves.

    Attributes:
        params: the weights at the end.
        returns: mean return by update, ``[updates]``.
    """

    params: Any
    returns: jax.Array


def make_training(
    config: Config, environment: Environment, arm: str
) -> Callable[[jax.Array, jax.Array], Learnt]:
    """Returns the compiled ``(seeds, rates) -> Learnt``, both ``[runs]``, of an arm."""
    network = ActorCritic(config.hidden, environment.actions)

    def train(seed: jax.Array, rate: jax.Array) -> Learnt:
        init_key, reset_key, key = jax.random.split(jax.random.key(seed), 3)
        learner = Learner(config, network, _method(config, arm, rate))
        actors = begin(environment, reset_key, config.actors, config.lowest)
        params = network.init(init_key, actors.observation)

        def update(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            params, opt_state, actors = carry
            act_key, learn_key = jax.random.split(key)

            def policy(observation: jax.Array) -> jax.Array:
                # Agents act with the true weights: prediction is for gradients.
                return learner.apply(params, observation)[0]

            actors, seen = act(environment, policy, actors, act_key, config.steps)
            params, opt_state = learner.learn(params, opt_state, seen, learn_key)
            return (params, opt_state, actors), seen.latest.mean()

        carry = (params, learner.method.transform.init(params), actors)
        keys = jax.random.split(key, config.updates)
        (params, _, _), returns = jax.lax.scan(update, carry, keys)
        return Learnt(params, returns)

    return jax.jit(jax.vmap(train))


def _method(config: Config, arm: str, rate: jax.Array) -> Method:
    """The arm of Adam; its rate falls in a straight line to 0."""
    steps = config.updates * config.epochs * config.minibatches
    fall = optax.linear_schedule(1.0, 0.0, steps)
    return make_method("adam", arm, rate, fall, clip_norm=config.clip_norm)


class Learner(NamedTuple):
    """What learns from what actors saw.

    Attributes:
        config: how.
        network: policy and value.
        method: the optimizer in one of its forms.
    """

    config: Config
    network: ActorCritic
    method: Method

    def apply(self, params: Any, observations: jax.Array) -> Any:
        """Returns logits and values."""
        return self.network.apply(params, observations)

    def learn(self, params: Any, opt_state: Any, seen: Seen, key: jax.Array) -> tuple[Any, Any]:
        """Passes over all examples, in minibatches and each time in an order of its own."""
        examples = self.examples(params, seen)

        def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
            minibatch = jax.tree.map(lambda leaf: leaf[rows], examples)

            def gradient(params: Any) -> Gradient:
                return Gradient(*jax.value_and_grad(self.loss)(params, minibatch), None)

            _, params, opt_state = train_step(self.method, gradient, *carry)
            return (params, opt_state), None

        count, epochs = len(examples.action), self.config.epochs
        orders = jax.vmap(lambda key: jax.random.permutation(key, count))(
            jax.random.split(key, epochs)
        )
        rows = orders.reshape(epochs * self.config.minibatches, -1)
        return jax.lax.scan(step, (params, opt_state), rows)[0]

    def examples(self, params: Any, seen: Seen) -> Examples:
        """Returns what the actors saw, one example a step of an actor."""
        values = self.apply(params, seen.observation)[1]
        advantage = advantages(
            seen.reward,
            values,
            self.apply(params, seen.final)[1],
            seen.terminated,
            seen.truncated,
            discount=self.config.discount,
            trace=self.config.trace,
        )
        by_actor = Examples(
            seen.observation, seen.action, seen.log_probability, advantage, values + advantage
        )
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), by_actor)

    def loss(self, params: Any, minibatch: Examples) -> jax.Array:
        """Returns the loss of a minibatch."""
        logits, values = self.apply(params, minibatch.observation)
        return loss(
            logits,
            values,
            minibatch,
            clip=self.config.clip,
            value_weight=self.config.value_weight,
            entropy_weight=self.config.entropy_weight,
        )
