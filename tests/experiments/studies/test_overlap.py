"""Whether a late all-reduce runs under computation, according to the compilers themselves."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from run_files import read_meta, read_records

from experiments.cli import main
from experiments.compilers.targets import TARGETS
from experiments.studies.overlap.ask import Config, Record
from experiments.studies.overlap.page import holes
from experiments.studies.overlap.schedule import read_schedule

ROOT = Path(__file__).parents[3]
PROGRAM = """\
HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %added = f32[] add(%a, %b)
}

%triton (x: f32[8,8]) -> f32[8,8] {
  %x = f32[8,8]{1,0} parameter(0)
  ROOT %dot = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (p: f32[8,8], ring: f32[8,8], batch: f32[8,8]) -> f32[8,8] {
  %p = f32[8,8]{1,0} parameter(0)
  %ring = f32[8,8]{1,0} parameter(1)
  %batch = f32[8,8]{1,0} parameter(2)
  %start.1 = f32[8,8]{1,0} all-reduce-start(%ring), to_apply=%sum
  %product = (f32[8,8]{1,0}, s8[64]{0}) custom-call(%batch, %p), custom_call_target="__cublas$gemm"
  %result = f32[8,8]{1,0} get-tuple-element(%product), index=0
  %done.1 = f32[8,8]{1,0} all-reduce-done(%start.1)
  %start.2 = f32[8,8]{1,0} all-reduce-start(%result), to_apply=%sum
  %scaled = f32[8,8]{1,0} add(%done.1, %done.1)
  %done.2 = f32[8,8]{1,0} all-reduce-done(%start.2)
  %fused = f32[8,8]{1,0} fusion(%done.2), kind=kCustom, calls=%triton
  %at.once = f32[8,8]{1,0} all-reduce(%fused), to_apply=%sum
  ROOT %sum.2 = f32[8,8]{1,0} add(%at.once, %scaled)
}
"""


def test_schedule_says_what_is_under_what_and_what_needs_the_batch():
    schedule = read_schedule(PROGRAM)
    assert [each.needs_batch for each in schedule.all_reduces] == [False, True, True]
    assert schedule.under_products == 1
    assert (schedule.overlapping_products, len(schedule.products)) == (1, 2)
    expected = "start 0,product,done 0,start 1,done 1,product,start 2,done 2"
    assert ",".join(schedule.events) == expected


def has_compiler(target):
    try:
        importlib.metadata.version(target.plugin)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.fixture(scope="module")
def compiled_for_h100(tmp_path_factory):
    """The records of one batch size at which there is enough to hide under."""
    if not has_compiler(TARGETS["h100"]):
        pytest.skip("jax-cuda12-plugin is not installed")
    folder = tmp_path_factory.mktemp("overlap") / "run"
    arguments = ["overlap", "--batch-sizes", "4096", "--output", str(folder)]
    # A process of its own: JAX looks at its plugins, and at what they are told, once.
    command = [sys.executable, "-m", "experiments", *arguments]
    process = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert process.returncode == 0, process.stderr
    assert (folder / "schedule.png").stat().st_size > 10_000
    assert "6 | " in (folder / "report.md").read_text("utf-8")
    assert read_meta(folder)["status"] == "complete"
    return {record["step"]: record for record in read_records(folder)}


def test_no_late_all_reduce_waits_for_this_step_s_batch(compiled_for_h100):
    for step, record in compiled_for_h100.items():
        assert record["all_reduces"] == 6
        assert record["of_this_batch"] == (6 if step == "synchronous" else 0)


@pytest.mark.parametrize("step", ["tied", "in-flight"])
def test_all_but_one_run_under_matrix_products_where_the_update_is_tied(compiled_for_h100, step):
    assert compiled_for_h100[step]["under_products"] >= 5
    assert compiled_for_h100[step]["under_products"] > compiled_for_h100["untied"]["under_products"]
    overlapping = {step: each["overlapping_products"] for step, each in compiled_for_h100.items()}
    assert overlapping[step] > 2 * overlapping["synchronous"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_missing_compiler_is_one_line(target, capsys):
    if has_compiler(TARGETS[target]):
        pytest.skip("it is installed")
    assert main(["overlap", "--target", target]) == 2
    assert "python -m pip install '.[aot]' brings it" in capsys.readouterr().err


def test_the_committed_page_is_made_from_its_records():
    folder = ROOT / "experiments" / "results" / "overlap-h100"
    records = [Record(**record) for record in read_records(folder)]
    table = holes(records, Config(), {})["table"]
    assert table in (folder / "report.md").read_text("utf-8")
    late = [record for record in records if record.step in ("tied", "in-flight")]
    assert all(record.overlapping_products == record.products for record in late)
