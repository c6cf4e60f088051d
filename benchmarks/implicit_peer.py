"""Seconds of an epoch of implicit's BPR, in an environment that has it: ``python implicit_peer.py TRAIN.npz``."""

import json
import sys
import time

import implicit
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy import sparse

EPOCHS = 5


def main(path: str) -> dict:
    matrix = sparse.load_npz(path)
    taken = []
    for _ in range(4):
        model = BayesianPersonalizedRanking(
            factors=64, iterations=EPOCHS, num_threads=2, random_state=0, verify_negative_samples=True
        )
        began = time.perf_counter()
        model.fit(matrix, show_progress=False)
        taken.append((time.perf_counter() - began) / EPOCHS)
    return {"seconds": sorted(taken[1:])[1], "version": implicit.__version__}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
