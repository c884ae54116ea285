"""The receiver's region codes and the names the rest of Tencent Cloud uses for the same places.

Source: Tencent Cloud's public region list for API v1, which the receiver's document refers to. The receiver
accepts only the short code; SCF gives the full name.
"""

from collections.abc import Mapping
from types import MappingProxyType

REGION_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "gz": "ap-guangzhou",
        "sh": "ap-shanghai",
        "bj": "ap-beijing",
        "cd": "ap-chengdu",
        "cq": "ap-chongqing",
        "hk": "ap-hongkong",
        "sg": "ap-singapore",
        "th": "ap-bangkok",
        "kr": "ap-seoul",
        "jp": "ap-tokyo",
        "in": "ap-mumbai",
        "de": "eu-frankfurt",
        "usw": "na-siliconvalley",
        "use": "na-ashburn",
        "ca": "na-toronto",
        "shjr": "ap-shanghai-fsi",
        "szjr": "ap-shenzhen-fsi",
        "gzopen": "ap-guangzhou-open",
    }
)
"""Short code, as signed and sent in ``Region``, to full name."""

_SHORT = {full: short for short, full in REGION_NAMES.items()}


def short_region(name: str) -> str | None:
    """Return the short code of a region given by either name, or None if there is no such region."""
    lowered = name.strip().lower()
    return lowered if lowered in REGION_NAMES else _SHORT.get(lowered)
