"""Zero-shot accuracy from text prototypes."""

import torch
from torch import Tensor

from estimators._rows import feature_rows, slices
from estimators._rows_jackknife import delete_blocks, jackknife_blocks, jackknife_score
from estimators.errors import Degenerate, InvalidInput
from estimators.score import Score


def zero_shot(features: Tensor, labels: Tensor, text_prototypes: Tensor, /, *, blocks: Tensor | None = None) -> Score:
    r"""How often the class whose name is nearest to the image, in a joint image-text space, is the right one.

    $\frac1N \sum_i \mathbf 1\bigl[\,y_i = \arg\max_c \tfrac{\langle x_i, t_c\rangle}{\|x_i\| \|t_c\|}\,\bigr]$.

    Args:
        features: Image embeddings $x$, `[N, D]`, floating point, finite.
        labels: Integers `[N]`: rows of `text_prototypes`; or, where there are exactly as many different labels as
            prototypes, any integers, whose ascending order is that of the prototypes.
        text_prototypes: Class-name embeddings $t$, `[C, D]`, C >= 2, none of them zero.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Accuracy in [0, 1]; higher is better. `stderr` is the delete-one-block jackknife. Diagnostics: `classes`,
        `chance` (1/C), `absent_classes` (prototypes without an image), `zero_rows`.

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity, labels that name no prototype.
        Degenerate: Fewer than two prototypes, a zero prototype, or every image embedding zero.

    Reference:
        A. Radford et al. Learning Transferable Visual Models From Natural Language Supervision. ICML 2021.
        arXiv:2103.00020.

    Notes:
        Prototypes come as given: averaging several prompts a class is the caller's, before this. A zero image
        embedding points nowhere and counts as wrong. Equal similarities go to the lowest class.
    """
    rows = feature_rows(features)
    prototypes = feature_rows(text_prototypes, name="text_prototypes").to(rows.device, torch.float64)
    n, n_classes = rows.shape[0], prototypes.shape[0]
    if prototypes.shape[1] != rows.shape[1]:
        raise InvalidInput(f"features have {rows.shape[1]} columns, text_prototypes {prototypes.shape[1]}")
    ids = _prototype_ids(labels, n, n_classes).to(rows.device)
    if n_classes < 2:
        raise Degenerate("one prototype: there is nothing to tell apart")
    lengths = torch.linalg.vector_norm(prototypes, dim=1, keepdim=True)
    if not bool((lengths > 0).all()):
        raise Degenerate("a text prototype is zero: it has no direction")
    zero = (rows == 0).all(1)
    if bool(zero.all()):
        raise Degenerate("every image embedding is zero")
    directions = (prototypes / lengths).T
    predicted = torch.cat([(rows[part].double() @ directions).argmax(1) for part in slices(n, 4096)])
    right = ((predicted == ids) & ~zero).to(torch.float64)
    block = jackknife_blocks(blocks, n).to(rows.device)

    def value_of(kept: Tensor) -> float:
        return float(right[kept].mean())

    return jackknife_score(
        float(right.mean()),
        delete_blocks(block, value_of),
        {
            "classes": n_classes,
            "chance": 1 / n_classes,
            "absent_classes": n_classes - int(torch.unique(ids).numel()),
            "zero_rows": int(zero.sum()),
        },
    )


def _prototype_ids(labels: Tensor, n: int, n_classes: int) -> Tensor:
    if not isinstance(labels, Tensor) or labels.shape != (n,) or labels.is_floating_point() or labels.is_complex():
        raise InvalidInput(f"labels must be {n} integers of shape [N]")
    ids = labels.detach().to(torch.int64)
    if int(ids.min()) >= 0 and int(ids.max()) < n_classes:
        return ids
    ordered: Tensor = torch.unique(ids, return_inverse=True)[1]
    distinct = int(ordered.max()) + 1
    if distinct != n_classes:
        raise InvalidInput(f"{distinct} different labels do not say which of {n_classes} prototypes they name")
    return ordered
