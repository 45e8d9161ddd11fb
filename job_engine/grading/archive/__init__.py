"""Archives from strangers, turned into clean tar streams; and bundles, packed alike everywhere.

An archive is never unpacked on the host. `unpack` reads it with limits on what really
comes out, refuses what could climb, link or collide, and writes a new, uncompressed,
normalised tar into a spooled temporary file: sorted, without owners, times or special
bits, with links last. Only such streams are handed to sandboxes.
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
