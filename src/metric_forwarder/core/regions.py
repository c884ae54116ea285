"""The regions the receiver knows, by the short code it signs and the full name the platform uses.

Source: the region list of Tencent Cloud's API 1.0 documents.
"""

REGIONS: dict[str, str] = {
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
_SHORT = {full: short for short, full in REGIONS.items()}


def short_region(name: str) -> str | None:
    """Return the short code of a region given by either name, or None if there is no such region."""
    lowered = name.strip().lower()
    return lowered if lowered in REGIONS else _SHORT.get(lowered)
