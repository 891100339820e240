"""NCE: negative conditional entropy."""

import torch
from torch import Tensor

from estimators._rows import class_counts, class_ids
from estimators._rows_jackknife import delete_blocks, jackknife_blocks, jackknife_score
from estimators._rows_probs import source_probabilities
from estimators.score import Score


def nce(source_probs: Tensor, labels: Tensor, /, *, blocks: Tensor | None = None) -> Score:
    r"""How much of the target label is left unknown once the model's most probable source class is known.

    $\mathrm{NCE} = -\hat H(Y \mid Z) = \sum_{y, z} \hat P(y, z) \log \hat P(y \mid z)$ with
    $z_i = \arg\max_z \theta(x_i)_z$ and $\hat P$ the empirical joint distribution of $(y_i, z_i)$.

    Args:
        source_probs: $\theta$, `[N, Cs]`: probabilities over the source classes, each row summing to 1.
        labels: Integers `[N]`, with any gaps.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Minus an entropy in nats, in [-log C, 0]; higher is better. `stderr` is the delete-one-block jackknife.
        Diagnostics: `source_classes`, `used_source_classes`, `target_classes`, `singleton_classes`.

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity, negative entries, rows that do not sum to 1 (logits).
        Degenerate: One target class.

    Reference:
        A. T. Tran, C. V. Nguyen, T. Hassner. Transferability and Hardness of Supervised Classification Tasks.
        ICCV 2019. arXiv:1908.08142.

    Notes:
        The entropy of the counts themselves, with nothing added: one implementation adds 1e-20 to the conditional
        (which changes nothing at 1e-9), another 1e-5 to joint and marginal (which does). Source classes that no image
        falls into are dropped. A tie for the most probable class goes to the first. The plug-in entropy is too small
        where few images share a source class: a head of many classes gains from that alone.
    """
    probs = source_probabilities(source_probs)
    n, n_source = probs.shape
    ids = class_ids(labels, n).to(probs.device)
    n_classes = int(ids.max()) + 1
    cells = ids * n_source + probs.argmax(1)
    block = jackknife_blocks(blocks, n).to(probs.device)

    def value_of(kept: Tensor) -> float:
        if not kept.numel():
            return float("nan")
        return _minus_entropy(cells[kept], n_classes, n_source)

    used = int(torch.unique(cells % n_source).numel())
    return jackknife_score(
        _minus_entropy(cells, n_classes, n_source),
        delete_blocks(block, value_of),
        {
            "source_classes": n_source,
            "used_source_classes": used,
            "target_classes": n_classes,
            "singleton_classes": int((class_counts(ids) == 1).sum()),
        },
    )


def _minus_entropy(cells: Tensor, n_classes: int, n_source: int) -> float:
    """Return the mean of log P(y|z) over rows."""
    joint = torch.bincount(cells, minlength=n_classes * n_source).reshape(n_classes, n_source).to(torch.float64)
    conditional = joint / joint.sum(0).clamp_min(1)
    return float(torch.special.xlogy(joint, conditional).sum()) / cells.numel()
