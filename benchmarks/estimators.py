"""What the moment-based estimators cost, against the floor and against straight transcriptions of their definitions.

The floor is what any method through eigenvectors pays: the float64 product X^T X and `torch.linalg.eigh` of it. All is
measured in one process with the same number of threads; every figure is the median of several repetitions.

    python -m benchmarks.estimators [--parts panel service published memory] [--repeats 5] [--plain]
    python -m benchmarks.estimators --device cuda:0

`panel` is eight estimators at N = 10,000, D = 2048, C = 100 against the floor; `service` what a ranking computes of one
model of 5,000 images, with errors; `published` SFDA as its authors define it, at N = 5,000, D = 2048; `memory` PED at
397 classes, and a million images streamed. On another device the panel alone is measured, and held against a CPU's.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from estimators.blocks import block_ids
from estimators.evidence import Evidence
from estimators.logme import logme
from estimators.moments import ClassMoments, MomentAccumulator
from estimators.panel import Evaluation, evaluate
from estimators.ped import moves
from estimators.ped_logme import ped_logme
from estimators.sfda import sfda
from estimators.shared import Options
from estimators.view import View

PANEL = ("logme", "h_score", "lda", "gbc", "transrate", "ped_logme", "ped_lda", "frechet")
PARTS = ("panel", "service", "published", "memory")
SERVICE_PANEL = ("logme", "knn", "ped_logme", "frechet")


def features(n: int, dim: int, n_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features with a decaying spectrum, a mean off zero and classes that overlap: unlike plain noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % n_classes
    scale = torch.arange(1, dim + 1, dtype=torch.float32).pow(-0.5)
    rows = torch.randn(n, dim, generator=generator) * scale + 0.5
    return rows + 0.5 * (torch.randn(n_classes, dim, generator=generator) * scale)[labels], labels


def settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(run: Callable[[], object]) -> float:
    settle()
    start = time.perf_counter()
    run()
    settle()
    return time.perf_counter() - start


def floor(rows: Tensor) -> None:
    x = rows.to(torch.float64)
    torch.linalg.eigh(x.T @ x)


def plain_logme(rows: Tensor, labels: Tensor) -> float:
    """The definition, class by class: eigenvectors, projected labels, fixed point to convergence."""
    x = rows.to(torch.float64)
    n, dim = x.shape
    sigma, vectors = torch.linalg.eigh(x.T @ x)
    left = (x @ vectors) / sigma.clamp_min(1e-12).sqrt()
    total = 0.0
    for c in labels.unique().tolist():
        t = (labels == c).to(torch.float64)
        projected = (left.T @ t).square()
        alpha = beta = 1.0
        for _ in range(100):
            tau = alpha / beta
            gamma = (sigma / (sigma + tau)).sum()
            m2 = (sigma * projected / (tau + sigma).square()).sum()
            rest = (projected / (1 + sigma / tau).square()).sum() + t.sum() - projected.sum()
            alpha, beta = float(gamma / m2), float((n - gamma) / rest)
        evidence = dim * torch.log(torch.tensor(alpha)) + n * torch.log(torch.tensor(beta))
        evidence = evidence - (alpha + beta * sigma).log().sum() - beta * rest - alpha * m2 - n * 1.8378770664093453
        total += float(evidence) / 2 / n
    return total / len(labels.unique())


def plain_h_score(rows: Tensor, labels: Tensor) -> float:
    from sklearn.covariance import ledoit_wolf

    x = rows.to(torch.float64)
    x = x - x.mean(0)
    covariance, shrinkage = ledoit_wolf(x.numpy(), assume_centered=True)
    means = torch.zeros_like(x)
    for c in labels.unique().tolist():
        means[labels == c] = x[labels == c].mean(0)
    between = torch.cov(means.T)
    return float(torch.trace(torch.linalg.pinv(torch.from_numpy(covariance)) @ ((1 - shrinkage) * between)))


def plain_gbc(rows: Tensor, labels: Tensor) -> float:
    x = rows.to(torch.float64)
    classes = labels.unique().tolist()
    means = torch.stack([x[labels == c].mean(0) for c in classes])
    variances = torch.stack([x[labels == c].var(0, correction=0) for c in classes]).clamp_min(1e-4)
    total = 0.0
    for a in range(len(classes)):
        for b in range(len(classes)):
            if a != b:
                v = (variances[a] + variances[b]) / 2
                distance = ((means[a] - means[b]).square() / v).sum() / 8
                distance = distance + 0.5 * (v.log() - 0.5 * (variances[a].log() + variances[b].log())).sum()
                total -= float(torch.exp(-distance))
    return total


def plain_transrate(rows: Tensor, labels: Tensor) -> float:
    x = rows.to(torch.float64)
    x = x - x.mean(0)

    def rate(z: Tensor) -> float:
        matrix = z.T @ z / (z.shape[0] * 1e-4)
        matrix.diagonal().add_(1.0)
        return 0.5 * float(torch.linalg.slogdet(matrix).logabsdet)

    classes = labels.unique().tolist()
    return rate(x) - sum(rate(x[labels == c]) for c in classes) / len(classes)


PLAIN: dict[str, Callable[[Tensor, Tensor], float]] = {
    "logme": plain_logme,
    "h_score": plain_h_score,
    "gbc": plain_gbc,
    "transrate": plain_transrate,
}


def memory_of(code: str) -> dict[str, float]:
    """Run a piece of this file in a fresh process, where peak memory says something."""
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-m", "benchmarks.estimators", "--piece", code]
    out = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(out.stdout.strip().splitlines()[-1])
    return result


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def now_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def piece(name: str) -> dict[str, float]:
    if name == "ped":
        rows, labels = features(7940, 2048, 397, 0)
        moments = ClassMoments.from_features(rows, labels)
        background = (rows.mean(0).double(), rows.std(0).double())
        forget_peak()
        before = now_mb()
        moved = [seconds(lambda: moves(View(moments), Options(background=background))) for _ in range(5)]
        taken = [seconds(lambda: ped_logme(moments, background=background)) for _ in range(5)]
        return {
            "moves_seconds": statistics.median(moved),
            "with_logme_seconds": statistics.median(taken),
            "with_logme_first_seconds": taken[0],
            "above_mb": peak_mb() - before,
        }
    accumulator = MomentAccumulator()
    torch.manual_seed(0)
    batch, labels = torch.randn(2000, 1024), torch.arange(2000) % 100
    forget_peak()
    before = now_mb()
    start = time.perf_counter()
    for _ in range(500):
        accumulator.add(batch, labels)
    total = accumulator.moments()
    return {"seconds": time.perf_counter() - start, "above_mb": peak_mb() - before, "rows": float(total.n)}


def panel_against_floor(n: int, dim: int, classes: int, repeats: int, plain: bool, device: torch.device) -> None:
    rows, labels = features(n, dim, classes, 0)
    other, _ = features(n, dim, 1, 1)
    reference = ClassMoments.from_features(other, torch.zeros(n, dtype=torch.int64))
    del other
    here = Evidence(labels=labels, features=rows, reference_moments=reference, blocks=block_ids(labels))
    rows, labels = rows.to(device), labels.to(device)
    evidence = Evidence(
        labels=labels, features=rows, reference_moments=reference.to(device), blocks=block_ids(labels).to(device)
    )
    parts: dict[str, list[float]] = {}

    def panel(standard_errors: bool) -> None:
        for name, taken in evaluated(evidence, PANEL, standard_errors).items():
            parts.setdefault(f"{name}{' +se' if standard_errors else ''}", []).append(taken)

    runs: dict[str, Callable[[], object]] = {
        "floor": lambda: floor(rows),
        "logme alone": lambda: logme(rows, labels),
        "panel": lambda: panel(False),
        "panel +se": lambda: panel(True),
    }
    # interleaved, so that a neighbour's load falls on all alike
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds(run))
    base = statistics.median(times["floor"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"N={n} D={dim} C={classes}, {name}, {repeats} runs")
    for name, values in times.items():
        middle = statistics.median(values)
        ratios = statistics.median(v / f for v, f in zip(values, times["floor"], strict=True))
        print(f"{name:24s} {middle:8.3f} s   {middle / base:6.2f} x floor (median of paired ratios {ratios:.2f})")
    for name, values in sorted(parts.items()):
        print(f"  {name:22s} {statistics.median(values):8.3f} s", flush=True)
    if plain and device.type == "cpu":
        for name, run_plain in PLAIN.items():
            taken = statistics.median(seconds(lambda r=run_plain: r(rows, labels)) for _ in range(3))  # type: ignore[misc]
            print(f"  plain {name:16s} {taken:8.3f} s", flush=True)
    if device.type != "cpu":
        against_cpu(evaluate(evidence, PANEL), evaluate(here, PANEL))


def against_cpu(there: Mapping[str, Evaluation], here: Mapping[str, Evaluation]) -> None:
    for name, found in here.items():
        a, b = there[name].score, found.score
        if a is None or b is None or a.stderr is None or b.stderr is None:
            raise RuntimeError(f"{name}: {there[name].degenerate} there, {found.degenerate} on the CPU")
        value, error = abs(a.value - b.value) / (b.stderr or 1), abs(a.stderr - b.stderr)
        print(f"  {name:22s} is {value:.1e} errors from the CPU's; its error differs by {error:.1e}", flush=True)


def evaluated(evidence: Evidence, names: tuple[str, ...], standard_errors: bool) -> dict[str, float]:
    results = evaluate(evidence, names, standard_errors=standard_errors)
    for name, result in results.items():
        if result.score is None:
            raise RuntimeError(f"{name}: {result.degenerate or result.missing}")
    return {name: result.seconds for name, result in results.items()}


def service_panel(repeats: int) -> None:
    rows, labels = features(5000, 1280, 10, 0)
    other, _ = features(2000, 1280, 1, 1)
    reference = ClassMoments.from_features(other, torch.zeros(2000, dtype=torch.int64))
    evidence = Evidence(labels=labels, features=rows, reference_moments=reference)
    taken: list[dict[str, float]] = [evaluated(evidence, SERVICE_PANEL, True) for _ in range(repeats)]
    totals = statistics.median(sum(run.values()) for run in taken)
    cells = ", ".join(f"{name} {statistics.median(run[name] for run in taken):.2f}" for name in SERVICE_PANEL)
    print(f"service: N=5000 D=1280 C=10 with errors {totals:.2f} s: {cells}", flush=True)


def published(repeats: int) -> None:
    rows, labels = features(5000, 2048, 10, 0)
    taken = statistics.median(seconds(lambda: sfda(rows, labels, variant="published")) for _ in range(repeats))
    print(f"published: SFDA, N=5000 D=2048 C=10: {taken:.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="also time transcriptions of the definitions (CPU)")
    parser.add_argument("--piece", choices=("ped", "stream"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.piece:
        print(json.dumps(piece(given.piece)))
        return
    if "panel" in given.parts:
        panel_against_floor(given.n, given.dim, given.classes, given.repeats, given.plain, given.device)
    if given.device.type != "cpu":
        return
    if "service" in given.parts:
        service_panel(given.repeats)
    if "published" in given.parts:
        published(given.repeats)
    if "memory" in given.parts:
        for name in ("ped", "stream"):
            print(f"{name}: {memory_of(name)}", flush=True)


if __name__ == "__main__":
    main()
