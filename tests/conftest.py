"""8 host devices, strict dtype promotion, warnings as errors: for every test."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_modifyitems(items):
    """What is asked of one row comes together: one process takes it, and compiles what several tests need once."""

    def row(item):
        return getattr(item.callspec.params.get("row"), "name", "") if hasattr(item, "callspec") else ""

    items.sort(key=row)
