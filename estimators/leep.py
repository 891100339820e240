"""LEEP: log expected empirical prediction."""

from torch import Tensor

from estimators._rows import class_counts, class_ids
from estimators._rows_jackknife import delete_blocks, jackknife_blocks, jackknife_score
from estimators._rows_probs import joint_mass, log_expected, source_probabilities
from estimators.score import Score


def leep(source_probs: Tensor, labels: Tensor, /, *, blocks: Tensor | None = None) -> Score:
    r"""How well the model's own source classes, taken as soft clusters, predict the target label.

    $\mathrm{LEEP} = \frac1N \sum_i \log \sum_z \hat P(y_i \mid z)\, \theta(x_i)_z$ with
    $\hat P(y, z) = \frac1N \sum_{i:\, y_i = y} \theta(x_i)_z$ and $\hat P(y \mid z) = \hat P(y, z) / \hat P(z)$.

    Args:
        source_probs: $\theta$, `[N, Cs]`: probabilities over the source classes, each row summing to 1.
        labels: Integers `[N]`, with any gaps.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        A mean log probability in (-inf, 0]; higher is better. About $-H(Y)$ where source classes say nothing of the
        target's. `stderr` is the delete-one-block jackknife. Diagnostics: `source_classes`, `empty_source_classes`,
        `target_classes`, `singleton_classes`.

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity, negative entries, rows that do not sum to 1 (logits).
        Degenerate: One target class.

    Reference:
        C. V. Nguyen, T. Hassner, M. Seeger, C. Archambeau. LEEP: A New Measure to Evaluate Transferability of Learned
        Representations. ICML 2020. arXiv:2002.12462.

    Notes:
        Source classes with no mass at all are dropped; the authors' formula divides 0 by 0 there and the whole score
        becomes NaN. Otherwise the value is the published one. It is fitted and measured on the same rows, so that it
        rises with the number of source classes even on noise: compare it between heads of like size.
    """
    probs = source_probabilities(source_probs)
    ids = class_ids(labels, probs.shape[0]).to(probs.device)
    n_classes = int(ids.max()) + 1
    mass = joint_mass(probs, ids, n_classes)
    block = jackknife_blocks(blocks, probs.shape[0]).to(probs.device)

    def value_of(kept: Tensor) -> float:
        if not kept.numel():
            return float("nan")
        some, some_ids = probs[kept], ids[kept]
        return float(log_expected(some, some_ids, joint_mass(some, some_ids, n_classes)).mean())

    return jackknife_score(
        float(log_expected(probs, ids, mass).mean()),
        delete_blocks(block, value_of),
        {
            "source_classes": probs.shape[1],
            "empty_source_classes": int((mass.sum(0) == 0).sum()),
            "target_classes": n_classes,
            "singleton_classes": int((class_counts(ids) == 1).sum()),
        },
    )
