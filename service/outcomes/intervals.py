"""What a share measured on n images leaves open."""

import math

Z_90 = 1.6448536269514722


def wilson(share: float, n: int, /, *, z: float = Z_90) -> tuple[float, float]:
    """Wilson's score interval of a binomial share, 90 % unless told: sound near 0 and 1, where the usual one is not."""
    denominator = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / denominator
    half = z / denominator * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
