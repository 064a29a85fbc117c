"""What a recipe compares an image with: a student, a memory of good features, or both.

It knows nothing of networks or images.
"""

from __future__ import annotations

from enum import StrEnum


class Compare(StrEnum):
    """`train --compare`."""

    STUDENT = "student"
    """The paper's method: teacher against student."""
    MEMORY = "memory"
    """The teacher's features against those of good images. It is taught in seconds."""
    BOTH = "both"
    """At each pixel the weighted mean of both, each in its unit."""

    @property
    def has_student(self) -> bool:
        return self is not Compare.MEMORY

    @property
    def has_memory(self) -> bool:
        return self is not Compare.STUDENT
