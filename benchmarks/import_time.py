"""What importing the package costs beyond importing jax and optax.

    python benchmarks/import_time.py

Every measurement is a new interpreter, which imports jax and optax first and then the package; the median of
several is printed, and the modules of the package that take longest.
"""

import argparse
import subprocess
import sys
from statistics import median

IMPORT = """
import time
import jax, optax, optax.contrib
start = time.perf_counter()
import jaxopt_suite
print(time.perf_counter() - start)
"""


def seconds() -> float:
    done = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
    return float(done.stdout)


def slowest(count: int) -> list[tuple[float, str]]:
    """Milliseconds of the modules that take longest by themselves, below the package."""
    command = [sys.executable, "-X", "importtime", "-c", "import jax, optax, optax.contrib; import jaxopt_suite"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line]
    after = next(i for i, line in enumerate(lines) if line[2].strip() == "optax.contrib")
    return sorted(((int(line[0]) / 1e3, line[2].strip()) for line in lines[after + 1 :]), reverse=True)[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    taken = [seconds() for _ in range(options.rounds)]
    print(f"import jaxopt_suite: {median(taken):.3f} s beyond jax and optax ({min(taken):.3f} to {max(taken):.3f})")
    for milliseconds, name in slowest(8):
        print(f"{milliseconds:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
