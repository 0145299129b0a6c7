"""Counting at scale, on a small transformer: eight virtual devices, hence a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from run_files import read_meta, read_records, read_table

from experiments.cli import main
from experiments.page import page_text
from experiments.studies.bench.beside import beside_plain, by_variant
from experiments.studies.bench.choices import LAYOUTS
from experiments.studies.bench.exact import Exact
from experiments.studies.bench.scale import page
from experiments.studies.bench.scale.ask import Config, Record

REPOSITORY = Path(__file__).parents[4]
WIDTH = 128
VARIANTS = ("plain", "closed-form", "last-update", "drop-in")
MESHES = ["1 device", *(f"{layout} x 8" for layout in LAYOUTS)]

# Narrow and shallow: what is checked depends on neither.
RUN = f"""
import sys
import experiments.studies.bench.scale.ask, experiments.studies.bench.workloads
experiments.studies.bench.scale.ask.SIZES["tiny"] = {WIDTH}
experiments.studies.bench.workloads.BLOCKS = 4
from experiments.cli import main
sys.exit(main(sys.argv[1:]))
"""
ARGUMENTS = "scale --sizes tiny --devices 1 8 --optimizer sgdm --variants"


def test_scale_counts_without_running(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", RUN, *ARGUMENTS.split(), *VARIANTS[1:]]
    process = subprocess.run(
        [*command, "--output", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert "results are in" in process.stdout
    assert {path.name for path in folder.iterdir()} == {"report.md", "runs.jsonl", "meta.json"}
    meta = read_meta(folder)
    assert (meta["status"], meta["meshes_finished"]) == ("complete", len(MESHES))
    assert meta["device"]["count"] == 8
    records = read_records(folder)
    assert [(record["mesh"], record["variant"]) for record in records] == [
        (mesh, variant) for mesh in MESHES for variant in VARIANTS
    ]
    by_mesh = {mesh: {r["variant"]: r for r in records if r["mesh"] == mesh} for mesh in MESHES}
    for mesh, variants in by_mesh.items():
        check_sizes(mesh, variants)
        check_sharding(mesh, variants)
        check_added_bytes(variants)
    check_growth_with_devices(by_mesh)
    check_report(folder, by_mesh)
    monkeypatch.setattr("experiments.studies.bench.scale.page.BLOCKS", 4)  # as in RUN
    check_page(folder, tmp_path / "page.md")


def check_page(folder, page):
    assert main(["page", str(folder), "--output", str(page)]) == 0
    report = (folder / "report.md").read_text()
    changed = set(page.read_text().splitlines()) ^ set(report.splitlines())
    assert len(changed) == 2, "it says where its figures are, and nothing else is different"
    assert all(".jsonl" in line for line in changed)
    assert main(["page", str(page.with_suffix(".jsonl"))]) == 0


def check_sizes(mesh, variants):
    vocabulary, context = 8 * WIDTH, 256
    block = 12 * WIDTH**2 + 2 * WIDTH
    parameters = (vocabulary + context) * WIDTH + 4 * block + WIDTH
    for record in variants.values():
        assert record["parameters"] == parameters
        if mesh in ("1 device", "data x 8"):
            assert record["params_bytes"] == 4 * parameters
        else:
            assert record["params_bytes"] == pytest.approx(4 * parameters / 8, rel=0.01)


def check_sharding(mesh, variants):
    plain = variants["plain"]
    assert bool(plain["exact"]["collectives"]) == (mesh != "1 device")
    for record in variants.values():
        assert record["exact"]["collectives"] == plain["exact"]["collectives"]
        assert record["shardings_kept"]


def check_added_bytes(variants):
    arguments = {name: record["exact"]["arguments"] for name, record in variants.items()}
    size = variants["plain"]["params_bytes"]
    assert arguments["closed-form"] == arguments["plain"]
    assert arguments["last-update"] == arguments["plain"] + size + 8  # s and the count of updates
    assert arguments["drop-in"] == arguments["plain"] + size + 4  # the count
    assert variants["closed-form"]["floor"] == {"traffic": 3 * size, "state": 0}
    assert variants["last-update"]["floor"] == {"traffic": 4 * size, "state": size}
    plain = variants["plain"]
    assert plain["step_bytes"] > plain["exact"]["bytes_accessed"], "the other blocks count too"


def share_of_step(variants, name):
    plain = variants["plain"]
    added = variants[name]["exact"]["bytes_accessed"] - plain["exact"]["bytes_accessed"]
    return added / plain["step_bytes"]


def check_growth_with_devices(by_mesh):
    one, *more = by_mesh.values()
    for name in VARIANTS[1:]:
        for variants in more:
            assert share_of_step(variants, name) < 1.01 * share_of_step(one, name)


def check_report(folder, by_mesh):
    def share(mesh, name):
        return share_of_step(by_mesh[mesh], name)

    rows = read_table(folder, "Extra bytes accessed as a share of the plain step's")
    assert rows == [
        ["tiny", mesh, *(f"{100 * share(mesh, name):+.2f} %" for name in VARIANTS[1:])]
        for mesh in MESHES
    ]
    overall = read_table(folder, "At a glance")
    assert [row[0] for row in overall] == list(VARIANTS[1:])
    for name, *_, growth, spread, _, same_collectives, shardings_kept in overall:
        assert growth == "x 1.000", f"{name}: one size cannot grow"
        most = max(share(mesh, name) for mesh in MESHES)
        assert spread == f"x {most / share(MESHES[0], name):.3f}"
        assert same_collectives == shardings_kept == f"{len(MESHES)} of {len(MESHES)}"
    text = (folder / "report.md").read_text()
    assert "does not keep" not in text
    assert "**Note:** interrupted" not in text


# --------------------------------------------------------------------------------------------------
# What the report makes of figures
# --------------------------------------------------------------------------------------------------


def record(size, variant, bytes_accessed, *, temporary=100, **changes):
    exact = Exact(
        arguments=0,
        outputs=0,
        aliased=0,
        temporary=temporary,
        bytes_accessed=bytes_accessed,
        flops=0,
        instructions=0,
        collectives=changes.pop("collectives", {"all-reduce": 2}),
    )
    settings = {
        "size": size,
        "mesh": "data x 2",
        "devices": 2,
        "optimizer": "adam",
        "variant": variant,
        "parameters": 100,
        "params_bytes": 400,
        "exact": exact,
        "step_bytes": 10_000,
        "floor": None,
        "shardings_kept": True,
    }
    return Record(**(settings | changes))


META = {
    "date": "2024-01-01",
    "git": None,
    "device": {"count": 2, "kind": "cpu", "platform": "cpu", "cpu_cores": 2, "load_average": 9.0},
    "versions": {"jax": "1", "optax": "1", "xgrad_optax": "1"},
    "meshes_finished": 2,
    "meshes_planned": 2,
}


def drop_in(records):
    return by_variant(beside_plain(records))["drop-in"]


def test_growth_is_against_the_first_size_on_the_same_mesh():
    records = [
        record("1M", "plain", 2000),
        record("1M", "drop-in", 2400),
        record("10M", "plain", 2000),
        record("10M", "drop-in", 2600, temporary=150),
    ]
    first, _ = rows = drop_in(records)
    assert page.per_parameter_byte(first) == 1.0
    assert page.share(first) == 0.04
    assert page.growth(rows, "mesh") == pytest.approx(1.5)
    assert page.growth(rows, "size") == 1.0
    assert page.glance(records).cells() == [
        [
            "drop-in",
            "1.00 to 1.50",
            "",
            "+6.00 %",
            "x 1.500",
            "x 1.000",
            "+50.00 %",
            "2 of 2",
            "2 of 2",
        ]
    ]


def test_spread_is_against_the_first_mesh_of_the_same_size():
    records = [
        record("1M", variant, bytes_accessed, mesh=mesh)
        for mesh, added in {"1 device": 400, "data x 2": 300, "data x 4": 500}.items()
        for variant, bytes_accessed in {"plain": 2000, "drop-in": 2000 + added}.items()
    ]
    assert page.growth(drop_in(records), "mesh") == 1.0
    assert page.growth(drop_in(records), "size") == pytest.approx(1.25)


def test_other_collectives_and_lost_shardings_are_named():
    records = [
        record("1M", "plain", 2000),
        record("1M", "drop-in", 2400, collectives={"all-reduce": 3}, shardings_kept=False),
    ]
    assert list(page.notes(records, None, META)) == [
        "drop-in at 1M, data x 2 does not keep its shardings.",
        "drop-in at 1M, data x 2 has 3 all-reduce; the plain step 2 all-reduce.",
    ]
    (cells,) = page.glance(records).cells()
    assert cells[-2:] == ["0 of 1", "0 of 1"]


def test_shardings_that_the_plain_step_loses_are_not_laid_at_the_variants_door():
    records = [
        record("1M", "plain", 2000, shardings_kept=False),
        record("1M", "drop-in", 2400, shardings_kept=False),
    ]
    (note,) = page.notes(records, None, META)
    assert note.startswith("the plain step itself does not keep its shardings at 1M, data x 2: ")


def test_an_interrupted_count_says_so_and_needs_no_figures():
    config = Config(
        sizes=("1M",),
        layouts=("data",),
        devices=(1,),
        optimizer="adam",
        variants=("plain",),
        dtype="float32",
    )
    text = page_text(page, [], config, META | {"meshes_finished": 0})
    assert "**Note:** interrupted, 0/2 meshes" in text
    assert "## At a glance" not in text
