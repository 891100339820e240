"""What each moment-based estimator gives on pure noise, by feature width: the figures and docs/estimators/noise.svg.

python -m benchmarks.estimators_noise [--seeds 20] [--svg docs/estimators/noise.svg]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from estimators.catalog import SPECS
from estimators.evidence import Evidence
from estimators.moments import ClassMoments
from estimators.panel import SHARED, evaluate

WIDTHS = (64, 256, 1024, 4096)
N, C = 200, 10


def noise(width: int, seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(N, width, generator=generator)
    labels = torch.arange(N)[torch.randperm(N, generator=generator)] % C
    moments = ClassMoments.from_features(torch.randn(N, width, generator=generator), torch.zeros(N, dtype=torch.int64))
    evidence = Evidence(labels=labels, features=rows, reference_moments=moments)
    found = evaluate(evidence, SHARED, standard_errors=False)
    return {name: result.score.value for name, result in found.items() if result.score is not None}


def drift(means: list[float], errors: list[float]) -> float:
    """Largest difference between two widths, in standard errors of the difference."""
    pairs = [(i, j) for i in range(len(means)) for j in range(i)]
    return max(abs(means[i] - means[j]) / max(math.hypot(errors[i], errors[j]), 1e-12) for i, j in pairs)


def svg(table: dict[str, tuple[list[float], list[float]]]) -> str:
    """One small panel an estimator, its own vertical scale; the bar is two standard errors each way."""
    columns, width, height = 5, 190, 150
    rows = -(-len(table) // columns)
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {rows * height}" '
            'font-family="sans-serif" font-size="11">'
        ),
        "<title>Mean score on pure noise by feature width</title>",
        "<style>text{fill:#777}.l{stroke:#888;fill:none}.a{fill:#2a6f97;stroke:#2a6f97}.b{fill:#b44;stroke:#b44}</style>",
    ]
    for k, (name, (means, errors)) in enumerate(table.items()):
        x0, y0 = (k % columns) * width + 40, (k // columns) * height + 28
        low = min(m - 2 * e for m, e in zip(means, errors, strict=True))
        high = max(m + 2 * e for m, e in zip(means, errors, strict=True))
        span = max(high - low, 1e-9)
        css = "a" if SPECS[name].comparable_across_width else "b"
        out.append(f'<text x="{x0}" y="{y0 - 12}">{name}</text><path class="l" d="M{x0} {y0}v90h130"/>')
        out.append(f'<text x="{x0 - 4}" y="{y0 + 6}" text-anchor="end" font-size="9">{high:.3g}</text>')
        out.append(f'<text x="{x0 - 4}" y="{y0 + 90}" text-anchor="end" font-size="9">{low:.3g}</text>')
        for i, (mean, error) in enumerate(zip(means, errors, strict=True)):
            x = x0 + 15 + i * 33
            y = y0 + 90 * (high - mean) / span
            reach = 90 * 2 * error / span
            out.append(f'<circle class="{css}" cx="{x}" cy="{y:.1f}" r="2.5"/>')
            out.append(f'<path class="{css}" d="M{x} {y - reach:.1f}V{y + reach:.1f}"/>')
            out.append(f'<text x="{x}" y="{y0 + 102}" text-anchor="middle" font-size="9">{WIDTHS[i]}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    runs = {width: [noise(width, seed) for seed in range(arguments.seeds)] for width in WIDTHS}
    table: dict[str, tuple[list[float], list[float]]] = {}
    for name in SHARED:
        means, errors = [], []
        for width in WIDTHS:
            values = torch.tensor([run[name] for run in runs[width]], dtype=torch.float64)
            means.append(float(values.mean()))
            errors.append(float(values.std()) / math.sqrt(len(values)))
        table[name] = (means, errors)
        cells = "  ".join(f"{m:9.4f} ±{e:.4f}" for m, e in zip(means, errors, strict=True))
        print(f"{name:10s} {cells}   drift {drift(means, errors):.1f} se")
    if arguments.svg is not None:
        arguments.svg.write_text(svg(table))


if __name__ == "__main__":
    main()
