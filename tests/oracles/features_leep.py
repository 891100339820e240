"""LEEP and NCE, transcribed loop by loop from their published definitions.

Provenance: LEEP from Nguyen et al., ICML 2020, arXiv:2002.12462; NCE from Tran et al., ICCV 2019, arXiv:1908.08142.
Pinned to the published LEEP of Office-31 features: -0.950 (dslr) and -1.804 (webcam), 15 source classes.
Shares no code with `estimators`.
"""

import math


def leep(probs, labels):
    n, n_source = len(probs), len(probs[0])
    joint = {}
    for theta, y in zip(probs, labels, strict=True):
        for z in range(n_source):
            joint[y, z] = joint.get((y, z), 0.0) + float(theta[z]) / n
    marginal = [sum(p for (_, w), p in joint.items() if w == z) for z in range(n_source)]
    total = 0.0
    for theta, y in zip(probs, labels, strict=True):
        total += math.log(sum(joint[y, z] / marginal[z] * float(theta[z]) for z in range(n_source) if marginal[z] > 0))
    return total / n


def nce(probs, labels):
    n = len(probs)
    pairs, sources = {}, {}
    for theta, y in zip(probs, labels, strict=True):
        z = max(range(len(theta)), key=lambda k: (float(theta[k]), -k))
        pairs[y, z] = pairs.get((y, z), 0) + 1
        sources[z] = sources.get(z, 0) + 1
    return sum(count / n * math.log(count / sources[z]) for (_, z), count in pairs.items())
