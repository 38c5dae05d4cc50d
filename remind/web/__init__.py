"""What the pages and services of both ends share: who may ask, what every answer carries, where they listen.

Needs the packages of the extras ``dashboard`` and ``serve``.
"""
