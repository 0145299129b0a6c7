"""Devices that programs are compiled for without being there; importing this imports no JAX.

The compilers of GPU and TPU come with JAX's plugins and run on any machine; they are told what the
device is like. What they compile to is what the device would run, so its memory, its traffic and
its collectives can be counted. Nothing is run or timed.
"""

import dataclasses
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of device, eight of them.

    Attributes:
        summary: one line for ``--help`` and reports.
        platform: what JAX calls the platform when it lowers for it.
        plugin: the distribution that brings the compiler.
        topology_name: how the plugin calls the eight devices; empty if it is told all of it.
        topology: further words to describe them.
        description: file beside this one with the properties of one device.
        options: compiler options.
        quick_options: further ones for programs that would take minutes to compile.
        environment: variables that the plugin reads, where they are not set.
        notes: what a reader of the figures should know of how they were compiled.
    """

    summary: str
    platform: str
    plugin: str
    topology_name: str = ""
    topology: Mapping[str, str] = dataclasses.field(default_factory=dict)
    description: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    quick_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: str = ""

    @property
    def compiler(self) -> str:
        """Name and version of the compiler.

        Raises:
            UsageError: it is not installed.
        """
        try:
            return f"{self.plugin} {importlib.metadata.version(self.plugin)}"
        except importlib.metadata.PackageNotFoundError as error:
            raise UsageError(
                f"to compile for {self.summary}, {self.plugin} is needed and not installed; "
                "python -m pip install '.[aot]' brings it"
            ) from error

    def devices(self) -> list[Any]:
        """Returns the eight devices, to place shapes on.

        Raises:
            UsageError: the compiler is not installed, or cannot compile for the devices.
        """
        compiler = self.compiler
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)

        import jax

        # The process needs a backend of its own for constants and keys: what is always there.
        jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS") or "cpu")
        try:
            devices = self._describe()
            spec = jax.ShapeDtypeStruct((8,), "float32", sharding=_on(devices[0]))
            self.compile(jax.jit(lambda x: x + 1), spec)
        except Exception as error:  # whatever the plugin raises, it cannot do what is asked for
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UsageError(
                f"jax {jax.__version__} with {compiler} cannot compile for {self.summary} "
                f"({reason}); python -m pip install '.[aot]' brings versions that fit together"
            ) from error
        return devices

    def compile(self, function: Any, *shapes: Any, quickly: bool = False) -> Any:
        """Compiles a jitted function for shapes that lie on the target's devices."""
        options = {**self.options, **(self.quick_options if quickly else {})}
        return function.trace(*shapes).lower(lowering_platforms=(self.platform,)).compile(options)

    def _describe(self) -> list[Any]:
        from jax.experimental import topologies

        told = dict(self.topology)
        if self.description is not None:
            told["target_config"] = Path(__file__).with_name(self.description).read_text("utf-8")
        topology = topologies.get_topology_desc(self.topology_name, self.platform, **told)
        return list(topology.devices)


def _on(device: Any) -> Any:
    import jax

    return jax.sharding.SingleDeviceSharding(device)


TARGETS: Mapping[str, Target] = {
    "h100": Target(
        summary="NVIDIA H100 80GB",
        platform="cuda",
        plugin="jax-cuda12-plugin",
        topology={"topology": "1x1x8"},  # slices, machines of each, GPUs of each
        description="h100.txtpb",
        options={"xla_gpu_autotune_level": 0},  # it would time kernels on the device
        notes=(
            "XLA chooses among implementations of a matrix product by timing them; without a "
            "device it takes its first choice. The optimizer's update is not touched by that."
        ),
    ),
    "v5e": Target(
        summary="TPU v5e",
        platform="tpu",
        plugin="libtpu",
        topology_name="v5e:2x4",
        quick_options={"exec_time_optimization_effort": -1.0},
        notes=(
            "The MLP is compiled as XLA does it by default. The larger models are compiled at the "
            "lowest of its efforts to save execution time, seconds instead of a minute for each "
            "program: there it fuses less and keeps less on the chip, and the drop-in form moves "
            "more than it would at the default effort."
        ),
        environment={
            "TPU_SKIP_MDS_QUERY": "1",  # else it asks the cloud where it is
            "TPU_ACCELERATOR_TYPE": "v5litepod-8",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no device is taken, so processes can share it
            "TPU_MIN_LOG_LEVEL": "3",
        },
    ),
}
