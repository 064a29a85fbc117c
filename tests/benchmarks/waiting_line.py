"""The service of a line whose network only waits, for `tests.benchmarks.many_cameras`.

    python -m tests.benchmarks.waiting_line --config FILE run

Everything but the network is the real service. Its supervisor starts this module again, without arguments, as
the scoring worker. Both read the variables of `WaitingNetwork.from_environment`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from monitor.line_state.worker_process import SCORING, run_worker
from monitor.service.supervisor import Supervisor
from monitor.settings import load_settings
from monitor.system import logs

WAIT_MS, REJECT_EVERY = "NETWORK_WAIT_MS", "NETWORK_REJECT_EVERY"


class WaitingNetwork:
    """Takes the place of a network: it waits, and rejects every n-th image."""

    def __init__(self, wait_s: float, reject_every: int) -> None:
        self._wait_s, self._reject_every = wait_s, reject_every
        self._seen = 0

    @classmethod
    def from_environment(cls) -> WaitingNetwork:
        return cls(float(os.environ[WAIT_MS]) / 1000, int(os.environ[REJECT_EVERY]))

    def __call__(self, images):  # type: ignore[no-untyped-def]
        """(N, 3, H, W) to anomaly maps (N, H, W); torch is imported only in the scoring worker."""
        import torch

        time.sleep(self._wait_s)
        # By numpy: torch would divide the work, and its threads spin for a while after it.
        maps = np.zeros((len(images), *images.shape[2:]), np.float32)
        for one in maps:
            self._seen += 1
            one[0, 0] = 1e3 if self._reject_every and self._seen % self._reject_every == 0 else 0.0
        return torch.from_numpy(maps)


def replace_network() -> None:
    """Gives every scorer of this process a waiting network."""
    from monitor.inference.scorer import Scorer

    if not hasattr(Scorer, "_build_network"):
        raise SystemExit("Scorer builds its network elsewhere now: change tests/benchmarks/waiting_line.py")
    # Whatever precision and parallelism are asked for: a wait has none.
    Scorer._build_network = lambda self, *way: WaitingNetwork.from_environment()  # type: ignore[method-assign]


def score() -> None:
    """Run the scoring worker with a waiting network."""
    from monitor.scoring.worker import work

    replace_network()
    run_worker(work)


def serve(config: Path) -> int:
    settings = load_settings(config)
    logs.configure(settings.log.level.number)
    supervisor = Supervisor(settings)
    supervisor._workers[SCORING].module = "tests.benchmarks.waiting_line"
    return supervisor.run()


def main() -> int:
    if len(sys.argv) == 1:
        score()
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("command", choices=["run"])
    return serve(parser.parse_args().config)


if __name__ == "__main__":
    sys.exit(main())
