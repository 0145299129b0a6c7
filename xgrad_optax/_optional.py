"""What is missing when a module of this library needs more than JAX and Optax."""


def without_flax(module: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error to raise when ``module`` is imported and Flax is not installed.

    Args:
      module: the importing module.
      error: what the import raised; one about another module is returned as it is.
    """
    if (error.name or "").split(".")[0] != "flax":
        return error
    return ModuleNotFoundError(
        f"{module} needs Flax, which is not installed; the extra `flax` brings it: in a checkout"
        " of this library, python -m pip install '.[flax]'.",
        name="flax",
    )
