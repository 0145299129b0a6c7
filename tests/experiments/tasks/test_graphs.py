"""The tasks on graphs: what counts, what is learned from, and the real data if they exist."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.citations import UPDATES_PER_PASS, load_citations
from experiments.data.small_graphs import load_small_graphs, stratified_folds
from experiments.errors import UsageError
from experiments.task import Variables
from experiments.tasks import load_task
from experiments.tasks.graphs import counted
from experiments.training.batches import take
from experiments.training.program import compile_program
from experiments.training.result import RunSpec
from tests.experiments.quick import jit_quickly, random_variables


@pytest.fixture
def citing():
    task = load_task("gcn-cora")
    return task, random_variables(task), task.fake()


class TestCitations:
    def test_a_pass_is_ten_updates_and_there_are_200(self, citing):
        task, _, data = citing
        assert len(data.train["label"]) == UPDATES_PER_PASS == 10
        assert task.protocol.epochs * UPDATES_PER_PASS == 200
        assert not any(array.strides[0] for array in data.train.values())  # no copies

    def test_only_labels_of_the_part_count(self, citing):
        task, variables, data = citing
        measure, gradient = jit_quickly(task.measure), jit_quickly(task.gradient)
        batch = take(data.train, np.arange(1))
        counted = batch["counted"] == 1
        others = {**batch, "label": np.where(counted, batch["label"], (batch["label"] + 1) % 7)}
        one, other = (gradient(*variables, each, jax.random.key(0)) for each in (batch, others))
        jax.tree.map(np.testing.assert_array_equal, one, other)
        flipped = {**batch, "label": np.where(counted, (batch["label"] + 1) % 7, batch["label"])}
        assert gradient(*variables, flipped, jax.random.key(0)).loss != one.loss
        sums, _ = measure(variables, {**data.test, "weight": np.ones(1)})
        assert sums["weight"] == data.test["counted"].sum() == 4

    def test_the_first_layer_alone_is_penalized(self, citing):
        task, variables, data = citing
        # Without words nothing is computed: the loss is log 7, and the penalty.
        batch = {**take(data.train, np.arange(1))}
        batch["word_weight"] = np.zeros_like(batch["word_weight"])
        found = jit_quickly(task.gradient)(*variables, batch, jax.random.key(0))
        first = variables.params["first"]
        np.testing.assert_allclose(found.loss, np.log(7) + 2.5e-4 * np.sum(first**2), rtol=1e-5)
        np.testing.assert_allclose(found.params["first"], 5e-4 * first, rtol=1e-5)
        np.testing.assert_array_equal(found.params["second"], 0)

    def test_a_missing_file_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XGRAD_GRAPHS_DIR", str(tmp_path))
        with pytest.raises(UsageError, match=r"no graphs 'cora\.npz'.*set XGRAD_GRAPHS_DIR"):
            load_task("gcn-cora").load(None)

    @pytest.mark.parametrize(
        ("name", "nodes", "parts"), [("cora", 2_708, 140), ("citeseer", 3_327, 120)]
    )
    def test_real_data(self, name, nodes, parts):
        try:
            data = load_citations(name, None)
        except UsageError as error:
            pytest.skip(str(error))
        assert data.train["label"].shape == (UPDATES_PER_PASS, nodes)
        counted = [part["counted"][0] for part in data[:3]]
        assert [part.sum() for part in counted] == [parts, 500, 1_000]
        assert np.max(sum(counted)) == 1
        task = load_task(f"gcn-{name}")
        classes = parts // 20
        labels = data.train["label"][0][counted[0] == 1]
        np.testing.assert_array_equal(np.bincount(labels), [20] * classes)
        words = data.test["word"].max() + 1
        assert task.parameters == 16 * (words + classes)
        sums, _ = jax.jit(task.measure)(
            Variables(task.init(jax.random.key(0)).params, {}), {**data.test, "weight": np.ones(1)}
        )
        assert sums["weight"] == 1_000
        assert np.isfinite(sums["loss"])


@pytest.fixture
def folded():
    task = load_task("gin-mutag")
    return task, random_variables(task), task.fake()


class TestFolds:
    def test_folds_have_the_classes_shares(self):
        label = np.array([0] * 40 + [1] * 20)
        folds = stratified_folds(label)
        for fold in range(10):
            np.testing.assert_array_equal(np.bincount(label[folds == fold]), [4, 2])

    def test_each_graph_is_in_one_part_of_each_fold(self, folded):
        _, _, data = folded
        for fold in range(10):
            parts = np.stack([counted(part, jnp.int32(fold)) for part in data[:3]])
            assert (parts.sum(axis=0) == 1).all()
            np.testing.assert_array_equal(parts.sum(axis=1), [16, 2, 2])
            np.testing.assert_array_equal(data.test["fold"][parts[2]], [fold] * 2)

    def test_a_seed_decides_the_fold(self, folded):
        task, _, _ = folded
        keys = jax.vmap(jax.random.key)(jnp.arange(40))
        folds = jax.jit(jax.vmap(lambda key: task.init(key).state["fold"]))(keys)
        assert set(folds.tolist()) == set(range(10))

    def test_some_twenty_seeds_of_a_sweep_test_each_fold_twice(self, folded):
        seeds = (*range(10), 12, 15, 17, 18, 21, 24, 33, 37, 39, 50)
        task, _, data = folded
        spec = RunSpec(
            task=task.name,
            preset="cpu",
            optimizer="adam",
            arm="plain",
            learning_rate=0.01,
            seed=0,
        )
        program = compile_program(task, spec, steps=1, batch=take(data.train, np.arange(4)))
        rate = jnp.float32(spec.learning_rate)
        folds = [int(program.start(jnp.uint32(seed), rate).state["fold"]) for seed in seeds]
        np.testing.assert_array_equal(np.bincount(folds), [2] * 10)

    def test_nothing_of_the_held_out_graphs_is_learned(self, folded):
        task, variables, data = folded
        gradient = jit_quickly(task.gradient)
        held_out = ~np.asarray(counted(data.train, variables.state["fold"]))
        other = {
            **data.train,
            "label": np.where(held_out, 1 - data.train["label"], data.train["label"]),
            "tag": np.where(held_out[:, None], data.train["tag"][::-1], data.train["tag"]),
        }
        assert (other["tag"] != data.train["tag"]).any()
        one, changed = (
            gradient(*variables, batch, jax.random.key(0)) for batch in (data.train, other)
        )
        for a, b in zip(*map(jax.tree.leaves, (one, changed)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert one.state["fold"] == variables.state["fold"]

    def test_no_gradient_is_mere_rounding_which_adam_would_make_steps_of(self, folded):
        task, variables, data = folded
        found = jit_quickly(task.gradient)(*variables, data.train, jax.random.key(0))
        for path, leaf in jax.tree.leaves_with_path(found.params):
            assert np.abs(leaf).max() > 1e-3, jax.tree_util.keystr(path)

    def test_measures_are_of_the_fold(self, folded):
        task, variables, data = folded
        measure = jit_quickly(task.measure)
        for fold in (0, 7):
            state = {**variables.state, "fold": jnp.int32(fold)}
            found, _ = measure(
                Variables(variables.params, state), {**data.test, "weight": np.ones(20)}
            )
            chosen = take(data.test, np.flatnonzero(data.test["fold"] == fold))
            alone, _ = measure(Variables(variables.params, state), {**chosen, "weight": np.ones(2)})
            assert found["weight"] == 2
            np.testing.assert_allclose(found["loss"], alone["loss"], rtol=1e-5)

    @pytest.mark.parametrize(
        ("name", "largest", "graphs", "nodes", "tags"),
        [
            ("mutag", None, 188, 28, 7),
            ("proteins", None, 1_113, 620, 3),
            ("proteins", 100, 1_046, 100, 3),
        ],
    )
    def test_real_data(self, name, largest, graphs, nodes, tags):
        try:
            data = load_small_graphs(name, None, largest)
        except UsageError as error:
            pytest.skip(str(error))
        assert data.train["tag"].shape == (graphs, nodes)
        assert data.train["tag"].max() == tags - 1
        shares = [data.train["label"][data.train["fold"] == fold].mean() for fold in range(10)]
        assert max(shares) - min(shares) < 0.06
        present = (data.train["tag"] >= 0).sum(axis=1, keepdims=True)
        real = data.train["link_weight"] > 0
        for end in ("source", "target"):
            assert (data.train[end] < present)[real].all()
