"""Tries a wheel where nothing of the repository is: `python smoke.py WHEEL`, with the wheel installed."""

import pathlib
import sys
import zipfile
from importlib.metadata import metadata

import jax
import jax.numpy as jnp

import jaxopt_suite as jos
from jaxopt_suite._recipe.config import REGISTRY


def main():
    (wheel,) = sys.argv[1:]
    home = pathlib.Path(jos.__file__).parent
    assert "site-packages" in home.parts, f"imported from {home}, not as it was installed"
    check_files(zipfile.ZipFile(wheel).namelist())
    about = metadata("jaxopt-suite")
    assert about["Version"] == jos.__version__
    assert about["License-Expression"] == "Apache-2.0"
    names = [make.__name__ for make in REGISTRY.values() if getattr(jos, make.__name__, None) is make]
    assert {"adam", "novograd", "by_path", "lookahead"} <= {*names}, names
    check_step()
    print(f"jaxopt_suite {jos.__version__}, jax {jax.__version__}, Python {sys.version.split()[0]}: {', '.join(names)}")


def check_files(files):
    """The package, its types and its licence, and nothing else."""
    assert "jaxopt_suite/py.typed" in files
    rooms = {name.partition("/")[0] for name in files}
    about = {room for room in rooms if room.endswith(".dist-info")}
    assert rooms - about == {"jaxopt_suite"}, rooms
    assert any(name.endswith("licenses/LICENSE") for name in files), files
    assert not [name for name in files if "test" in name or name.endswith((".npz", ".pyc"))]


def check_step():
    """One step of NovoGrad: the gradient over its norm, at the rate."""
    tx, w = jos.novograd(0.5, global_clipnorm=10.0), {"w": jnp.zeros(2)}
    w, state = tx.apply_gradients({"w": jnp.array([3.0, 4.0])}, tx.init(w), w)
    assert jnp.allclose(w["w"], jnp.array([-0.3, -0.4]), atol=1e-6), w
    assert int(jos.state.iterations(state)) == 1
    assert jos.deserialize(jos.serialize(tx)) == tx


if __name__ == "__main__":
    main()
