"""Which source data a registry's tag names. Standard library only.

The rule: a tag is split at `_`, and every part below adds one data set, in the order of the parts, which is the order
of training (`in22k_ft_in1k`: ImageNet-22k, then ImageNet-1k). A part whose meaning hangs on the architecture (`fb`,
`dino`) is not listed. A tag with no known part gives None; the tag itself stays on the card.
"""

import re

_SOURCES = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "inw21k": "ImageNet-W21",
    "bamboo": "Bamboo",
    "jft": "JFT-300M",
    "ig1b": "Instagram-1B",
    "swag": "Instagram-3.6B",
    "seer": "Instagram-1B",
    "yfcc100m": "YFCC-100M",
    "yfcc15m": "YFCC-15M",
    "cc12m": "CC-12M",
    "openai": "OpenAI WebImageText",
    "laion400m": "LAION-400M",
    "laion2b": "LAION-2B",
    "laion5b": "LAION-5B",
    "laiona": "LAION-Aesthetic",
    "laion_aesthetic": "LAION-Aesthetic",
    "merged2b": "Merged-2B",
    "datacompxl": "DataComp-1B",
    "datacomp1b": "DataComp-1B",
    "datacomp_xl": "DataComp-1B",
    "datacomp_l": "DataComp-L",
    "datacomp_m": "DataComp-M",
    "datacomp_s": "DataComp-S",
    "datacompdr": "DataComp-DR",
    "commonpool_xl": "CommonPool-XL",
    "commonpool_l": "CommonPool-L",
    "commonpool_m": "CommonPool-M",
    "commonpool_s": "CommonPool-S",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
    "dfndr2b": "DFNDR-2B",
    "metaclip_2pt5b": "MetaCLIP-2.5B",
    "metaclip_fullcc": "MetaCLIP-2.5B",
    "metaclip_400m": "MetaCLIP-400M",
    "metaclip2_worldwide": "MetaCLIP2-worldwide",
    "webli": "WebLI",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "sat493m": "SAT-493M",
    "sa1b": "SA-1B",
    "m38m": "Merged-38M",
    "m30m": "Merged-30M",
    "mae": "ImageNet-1k",
    "fcmae": "ImageNet-1k",
    "mscoco": "MS COCO",
}

# Before commonpool_l and the like may match `commonpool_laion`, the part must end at `_` or at the end of the tag.
_PART = re.compile(
    r"(?:(?<=_)|^)(" + "|".join(re.escape(part) for part in sorted(_SOURCES, key=len, reverse=True)) + r")(?=_|$)"
)


def pretrained_on(tag: str, /) -> str | None:
    """Source data that the tag names, joined by ", then "; None where it names none."""
    found: list[str] = []
    for match in _PART.finditer(tag):
        name = _SOURCES[match[1]]
        if name not in found:
            found.append(name)
    if "finetuned" in tag:
        # The one form that names the last data set first: `mscoco_finetuned_laion2b`.
        found.reverse()
    return ", then ".join(found) if found else None
