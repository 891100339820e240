"""Exact nearest neighbours: proposed once in float32, and voted from as often as blocks are deleted."""

from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from estimators._rows import Targets, row_digests, slices

Metric = Literal["cosine", "l2"]

_TIE = 1e-12  # similarities closer than this are equal: float64 rounding stays below 1e-13 on a scale of one
_FLOAT32_ERROR = 1e-5  # bound on the float32 similarities, which lie on a scale of one
_CHUNK_BYTES = 64 * 2**20
_DIGEST_BYTES = 100  # of a short bytes object and its place in a set
_CACHED_BYTES = 2**21  # gathered rows are read again at once, and should still be in the cache


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Every query's candidates, whatever the labels."""

    scale: float
    ids: Tensor  # [Q, m]
    similarity: Tensor  # [Q, m] float64, -inf for the query itself
    floor: Tensor  # [Q]: no row outside of `ids` is more similar than this
    n_rows: int
    zero_rows: int
    digests: frozenset[bytes]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        tensors = (self.ids, self.similarity, self.floor)
        return sum(part.numel() * part.element_size() for part in tensors) + _DIGEST_BYTES * len(self.digests)

    @property
    def duplicates(self) -> int:
        """Rows that repeat an earlier row exactly."""
        return self.n_rows - len(self.digests)

    @classmethod
    def find(
        cls, rows: Tensor, queries: Tensor, metric: Metric, /, *, k: int, own_rows: bool, spare: int
    ) -> "Neighbourhood":
        n = rows.shape[0]
        centre, scale = _centre_and_scale(rows) if metric == "l2" else (None, 1.0)
        database = _searchable(rows, centre, scale)
        asked = database if own_rows else _searchable(queries, centre, scale)
        depth = min(n, k + spare + int(own_rows))
        ids = _nearest(database, asked, depth, metric)
        similarity = _gathered_similarity(rows, queries, ids, metric, scale)
        # A row that was not proposed is at most as similar as the last one that was, up to the error of float32.
        floor = (
            similarity.amin(1) + 2 * _FLOAT32_ERROR
            if depth < n
            else torch.full((queries.shape[0],), -torch.inf, dtype=torch.float64)
        )
        if own_rows:
            similarity[ids == torch.arange(n)[:, None]] = -torch.inf
        return cls(scale, ids, similarity, floor, n, _zero_rows(rows), frozenset(row_digests(rows)))

    def grown(self, rows: Tensor, positions: Tensor, /) -> "Neighbourhood":
        """The same by cosine among more rows, where those searched before now lie at `positions`, in ascending order.

        Old rows are compared with the new ones alone.
        """
        n, depth = rows.shape[0], self.ids.shape[1]
        fresh = torch.ones(n, dtype=torch.bool)
        fresh[positions] = False
        new = fresh.nonzero().squeeze(1)
        units = _unit(rows[new].double())
        ids = torch.empty(n, depth, dtype=torch.int64)
        similarity = torch.empty(n, depth, dtype=torch.float64)
        floor = torch.empty(n, dtype=torch.float64)
        of_new = units.new_empty(len(new), 0), new.new_empty(len(new), 0)
        for part in slices(len(positions), 4096):
            at = positions[part]
            some = rows[at].double()
            near = some @ units.T / _norms(some)
            similarity[at], ids[at] = _nearest_of(
                torch.cat([self.similarity[part], near], 1),
                torch.cat([positions[self.ids[part]], new.expand(len(at), -1)], 1),
                depth,
            )
            floor[at] = torch.maximum(self.floor[part], similarity[at, -1])
            of_new = _with_more(of_new, near.T, at, depth)
        for part in slices(len(new), 4096):
            of_new = _with_more(of_new, units @ units[part].T, new[part], depth)
        similarity[new], ids[new] = of_new
        floor[new] = similarity[new, -1]
        similarity[ids == torch.arange(n)[:, None]] = -torch.inf
        return Neighbourhood(
            self.scale,
            ids,
            similarity,
            floor,
            n,
            self.zero_rows + _zero_rows(rows[new]),
            self.digests.union(row_digests(rows[new])),
        )


@dataclass(frozen=True, slots=True)
class NeighbourSearch:
    """Votes of every query's neighbours; most queries never look beyond their candidates."""

    rows: Tensor
    queries: Tensor
    truth: Targets
    metric: Metric
    k: int
    own_rows: bool
    near: Neighbourhood

    def predict(self, deleted: Tensor | None, asked: Tensor) -> tuple[Tensor, int]:
        """Predict for the queries `asked` without the rows `deleted`; also return how many needed every row."""
        ids, similarity = self.near.ids[asked], self.near.similarity[asked]
        if deleted is not None:
            similarity = similarity.masked_fill(deleted[ids], -torch.inf)
        if ids.shape[1] >= self.k:
            kth = similarity.topk(self.k, dim=1).values[:, -1]
        else:
            kth = torch.full((asked.numel(),), -torch.inf, dtype=torch.float64)
        short = ~(kth - _TIE > self.near.floor[asked])
        enough = ~short
        predictions = torch.empty(
            (asked.numel(),) if self.truth.task == "classification" else (asked.numel(), self.truth.n_outputs),
            dtype=self.truth.values.dtype,
        )
        step = max(1, _CHUNK_BYTES // (8 * max(self.truth.n_outputs, ids.shape[1])))
        chosen = enough.nonzero().squeeze(1)
        for part in (chosen[some] for some in slices(chosen.numel(), step)):
            predictions[part] = _vote(similarity[part], ids[part], self.truth, self.k)
        step = max(1, _CHUNK_BYTES // (16 * self.rows.shape[0]))
        chosen = short.nonzero().squeeze(1)
        for part in (chosen[some] for some in slices(chosen.numel(), step)):
            everything = self._all_similarities(asked[part])
            if deleted is not None:
                everything[:, deleted] = -torch.inf
            all_ids = torch.arange(self.rows.shape[0]).expand(part.numel(), -1)
            predictions[part] = _vote(everything, all_ids, self.truth, self.k)
        return predictions, int(short.sum())

    def _all_similarities(self, asked: Tensor) -> Tensor:
        queries, rows = self.queries[asked].double(), self.rows.double()
        match self.metric:
            case "cosine":
                similarity = _unit(queries) @ _unit(rows).T
            case "l2":
                similarity = -torch.cdist(queries, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
                similarity /= self.near.scale**2
            case _:
                assert_never(self.metric)
        if self.own_rows:
            similarity[torch.arange(asked.numel()), asked] = -torch.inf
        return similarity


def _vote(similarity: Tensor, ids: Tensor, truth: Targets, k: int) -> Tensor:
    kth = similarity.topk(k, dim=1).values[:, -1:]
    above = similarity > kth + _TIE
    level = (similarity >= kth - _TIE) & ~above
    share = (k - above.sum(1, keepdim=True)) / level.sum(1, keepdim=True)
    weight = above.double() + level.double() * share
    if truth.task != "classification":
        return torch.einsum("qm,qmt->qt", weight / k, truth.values[ids])
    votes = torch.zeros(ids.shape[0], truth.n_outputs, dtype=torch.float64)
    summed = torch.zeros_like(votes)
    classes = truth.values[ids]
    votes.scatter_add_(1, classes, weight)
    summed.scatter_add_(1, classes, weight * similarity.masked_fill(weight == 0, 0.0))
    first = votes >= votes.amax(1, keepdim=True) - _TIE
    summed.masked_fill_(~first, -torch.inf)
    return (summed >= summed.amax(1, keepdim=True) - _TIE).to(torch.uint8).argmax(1)


def _nearest_of(similarity: Tensor, ids: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    best = similarity.topk(min(depth, similarity.shape[1]), dim=1)
    return best.values, ids.gather(1, best.indices)


def _with_more(found: tuple[Tensor, Tensor], similarity: Tensor, at: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """The nearest of those found before and of the rows `at`."""
    before, ids = found
    return _nearest_of(torch.cat([before, similarity], 1), torch.cat([ids, at.expand(len(ids), -1)], 1), depth)


def _zero_rows(rows: Tensor) -> int:
    return int((rows == 0).all(1).sum())


def _unit(rows: Tensor) -> Tensor:
    return rows / _norms(rows)


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    return norms.masked_fill(norms == 0, 1.0)


def _centre_and_scale(rows: Tensor) -> tuple[Tensor, float]:
    # Float32 loses the distance of two points that are close together and far from zero: hence about the mean.
    centre: Tensor = rows.mean(0, dtype=torch.float64)
    spread = 0.0
    for part in slices(rows.shape[0], 4096):
        spread += float((rows[part] - centre).square().sum())
    return centre, (spread / rows.shape[0]) ** 0.5


def _nearest(database: Tensor, asked: Tensor, depth: int, metric: Metric) -> Tensor:
    """Positions `[Q, depth]` of the nearest rows, by float32 products: the widest vectors the processor has."""
    half_norms = 0.5 * database.square().sum(1) if metric == "l2" else None
    found = []
    for part in slices(asked.shape[0], max(1, _CHUNK_BYTES // (4 * database.shape[0]))):
        similarity = asked[part] @ database.T
        if half_norms is not None:
            similarity -= half_norms
        found.append(similarity.topk(depth, dim=1).indices)
    return torch.cat(found)


def _searchable(rows: Tensor, centre: Tensor | None, scale: float) -> Tensor:
    out = torch.empty(rows.shape, dtype=torch.float32)
    for part in slices(rows.shape[0], 4096):
        out[part] = (_unit(rows[part].double()) if centre is None else (rows[part] - centre) / scale).float()
    return out


def _gathered_similarity(rows: Tensor, queries: Tensor, ids: Tensor, metric: Metric, scale: float) -> Tensor:
    depth, width = ids.shape[1], rows.shape[1]
    step = max(1, _CACHED_BYTES // (8 * depth * width))
    norms, query_norms = (_norms(rows), _norms(queries)) if metric == "cosine" else (None, None)
    parts = []
    for start in range(0, queries.shape[0], step):
        some, chosen = queries[start : start + step].double(), ids[start : start + step]
        near = rows[chosen].double()
        if norms is not None and query_norms is not None:
            dots = torch.bmm(near, some[:, :, None]).squeeze(2)
            parts.append(dots / (norms[chosen].squeeze(2) * query_norms[start : start + step]))
        else:
            parts.append(-(near - some[:, None, :]).square().sum(2) / scale**2)
    return torch.cat(parts)
