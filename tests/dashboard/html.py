"""The content of a page's source, without a browser."""

import re


def group_name(head: str) -> str:
    """The name of a group in the head of its row, which stands beside its dots."""
    return re.sub(r"<wbr>|\s", "", re.search(r'<span class="whole[^>]*>(.*?)</span>', head, re.DOTALL)[1])
