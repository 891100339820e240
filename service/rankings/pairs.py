"""What the scores of a ranking's entries are computed from."""

from service.rankings.tables import RankingRow
from service.scoring.evidence import Pair


def pair_of(ranking: RankingRow, fingerprint: str, extractor_id: str, /, *, sample: int | None = None) -> Pair:
    """One model's; `sample` is the number of images that a raced ranking has looked at, None for all of the split."""
    whole = ranking.race is None or sample is None or sample >= ranking.race.get("images", 0)
    return Pair(
        fingerprint=fingerprint,
        split=ranking.split or "",
        extractor_id=extractor_id,
        reference=ranking.reference_fingerprint,
        sample=None if whole else sample,
    )
