"""Where a run was made: what a system says of its processor, and what it does not."""

from pathlib import Path

import pytest

from experiments import provenance

X86 = (
    "processor\t: 0\nmodel name\t: AMD EPYC 7B13\ncpu MHz\t: 2450\n\nmodel name\t: AMD EPYC 7B13\n"
)
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\n"


@pytest.mark.parametrize(
    ("said", "fallback", "expected"),
    [(X86, "", "AMD EPYC 7B13"), (ARM, "aarch64", "aarch64"), (ARM, "", None), (None, "", None)],
)
def test_the_processor_is_what_the_system_says(monkeypatch, said, fallback, expected):
    def read_text(path, encoding):
        if said is None:
            raise FileNotFoundError(path)
        return said

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(provenance.platform, "processor", lambda: fallback)
    assert provenance._cpu_model() == expected


def test_a_record_says_which_processor_and_how_many_cores():
    device = provenance.describe_environment()["device"]
    assert device["cpu_cores"] >= 1
    assert "cpu_model" in device
