"""Turning untrusted archives into clean tar streams, and packing bundles reproducibly.

An archive is never unpacked on the host. `unpack` reads it with limits on the real output,
refuses members that could escape, follow links or collide, and writes a new, uncompressed,
normalised tar to a spooled temporary file: sorted, without owners, times or special bits, and
with links last. Only such streams are passed to sandboxes.
"""

from job_engine.grading.archive.collect import Collector, Unpacked
from job_engine.grading.archive.limits import ArchiveLimits
from job_engine.grading.archive.names import clean_name
from job_engine.grading.archive.pack import pack_directory, pack_submission
from job_engine.grading.archive.unpack import is_plain, unpack

__all__ = [
    "ArchiveLimits",
    "Collector",
    "Unpacked",
    "clean_name",
    "is_plain",
    "pack_directory",
    "pack_submission",
    "unpack",
]
