"""What workers in other processes must be able to import."""

import os
import time
from pathlib import Path

import numpy as np

from nlsq_stratified.objectives.curve import CurveObjective


def decay(scale, x, amplitude, rate):
    """A model to make partials of; counts how often JAX traces it, in this process."""
    import jax.numpy as jnp

    traces.append(scale)
    return amplitude * jnp.exp(-rate * x / scale)


traces: list[float] = []


def trace_count():
    """How often the model has been traced in this process."""
    return len(traces)


class Files:
    """The chunks of `points`, read from a folder that notes by whom."""

    def __init__(self, folder, count):
        self.folder, self.count = Path(folder), count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        with (self.folder / f"reads-{index}").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return points(index)

    def readers(self):
        """Process ids of those who have read each chunk."""
        return [
            (self.folder / f"reads-{i}").read_text().split()
            if (self.folder / f"reads-{i}").exists()
            else []
            for i in range(self.count)
        ]


def points(index):
    """x and y of a chunk: 50 of them, but 53 in chunk 3."""
    rng = np.random.default_rng(index)
    x = rng.uniform(0, 3, 53 if index == 3 else 50)
    return x, 2.0 * np.exp(-0.7 * x) + rng.normal(0, 0.05, len(x))


class Deadly(CurveObjective):
    """Kills the process that sums chunk 3, so many times; a file counts the attempts."""

    def __init__(self, f, attempts, times=1):
        super().__init__(f)
        object.__setattr__(self, "deadly", (str(attempts), times))

    def __reduce__(self):
        return Deadly, (self.f, *self.deadly)

    def chunk_sums(self, params, chunk):
        attempts, times = self.deadly
        if len(chunk[1]) == 53:
            with Path(attempts).open("a") as file:
                file.write("x")
            if Path(attempts).stat().st_size <= times:
                time.sleep(0.2)  # until earlier sums have left the process
                os._exit(1)
        return super().chunk_sums(params, chunk)
