"""What variants add to the plain step at scale: beside it on one mesh, and over all of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from experiments.bench.records import ScaleRecord
from experiments.bench.variants import PLAIN


class Addition(NamedTuple):
    """What one variant adds to the plain step on the same mesh.

    Attributes:
        record: the variant.
        plain: the plain step.
    """

    record: ScaleRecord
    plain: ScaleRecord

    @property
    def traffic(self) -> int:
        """Extra bytes accessed."""
        return self.record.exact.bytes_accessed - self.plain.exact.bytes_accessed

    @property
    def traffic_per_parameter_byte(self) -> float:
        """Extra bytes accessed per byte of parameters."""
        return self.traffic / self.plain.params_bytes

    @property
    def traffic_share(self) -> float:
        """Extra bytes accessed as a share of all that the plain step accesses."""
        return self.traffic / self.plain.step_bytes

    @property
    def temporary_share(self) -> float:
        """Extra peak temporary bytes as a share of the plain step's."""
        return self.record.exact.temporary / self.plain.exact.temporary - 1

    @property
    def same_collectives(self) -> bool:
        """Whether the collective operations are the plain step's."""
        return self.record.exact.collectives == self.plain.exact.collectives


def additions(records: Sequence[ScaleRecord]) -> list[Addition]:
    """Returns every variant beside the plain step of its size and mesh."""
    plain = {(record.size, record.mesh): record for record in records if record.variant == PLAIN}
    return [
        Addition(record, plain[record.size, record.mesh])
        for record in records
        if record.variant != PLAIN
    ]


class Glance(NamedTuple):
    """One variant over all sizes and meshes.

    Attributes:
        variant: its name.
        floor: least extra bytes accessed per byte of parameters, None where none is stated.
        least: least extra bytes accessed per byte of parameters found.
        most: the most of them.
        share: the largest share of the plain step's bytes.
        growth: by what factor the share grew most from the first size on the same mesh.
        spread: by what factor it grew most from the first mesh at the same size.
        temporary: the largest extra of peak temporary bytes, as a share of the plain step's.
        same_collectives: on how many meshes the collective operations are the plain step's.
        shardings_kept: on how many meshes all shardings are kept.
        programs: number of sizes and meshes.
    """

    variant: str
    floor: float | None
    least: float
    most: float
    share: float
    growth: float
    spread: float
    temporary: float
    same_collectives: int
    shardings_kept: int
    programs: int


def glance(records: Sequence[ScaleRecord]) -> list[Glance]:
    """Returns one line for each variant."""
    by_variant: dict[str, list[Addition]] = {}
    for addition in additions(records):
        by_variant.setdefault(addition.record.variant, []).append(addition)
    return [_glance(variant, group) for variant, group in by_variant.items()]


def _glance(variant: str, group: Sequence[Addition]) -> Glance:
    densities = [addition.traffic_per_parameter_byte for addition in group]
    floor, params_bytes = group[0].record.floor, group[0].record.params_bytes
    return Glance(
        variant,
        floor=floor and floor.traffic / params_bytes,
        least=min(densities),
        most=max(densities),
        share=max(addition.traffic_share for addition in group),
        growth=_growth(group, lambda addition: addition.record.mesh),
        spread=_growth(group, lambda addition: addition.record.size),
        temporary=max(addition.temporary_share for addition in group),
        same_collectives=sum(addition.same_collectives for addition in group),
        shardings_kept=sum(addition.record.shardings_kept for addition in group),
        programs=len(group),
    )


def _growth(group: Sequence[Addition], place: Callable[[Addition], str]) -> float:
    """Returns by what factor the share grew most from the first addition at the same place."""
    first: dict[str, float] = {}
    for addition in group:
        first.setdefault(place(addition), addition.traffic_share)
    ratios = (
        addition.traffic_share / first[place(addition)]
        for addition in group
        if first[place(addition)]
    )
    return max(ratios, default=1.0)
