"""The bed's Docker daemon, whose executions write the trace.

It has a network of its own. The image that executions run from has no way out of its
container, and the engine gives it none; so this daemon's runtime puts the trace's pipe
into each container that writes a trace.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.faults.bed.boxes import IMAGE, PIPE, PROGRAM, Boxes
from tests.support.docker_daemon import PrivateDaemon, has_docker

__all__ = ["DockerDaemon", "has_docker"]

_RUNTIME: Final = """\
#!/bin/sh
# runc, which is told of one more mount
for word; do
    [ "$before" = --bundle ] && config=$word/config.json
    before=$word
done
if [ -f "$config" ] && grep -q {program} "$config"; then
    mount='{{"destination":"{inside}","type":"bind","source":"{outside}","options":["bind","rw"]}}'
    sed -i 's|"mounts":\\[|&'"$mount"',|' "$config"
fi
exec {runc} "$@"
"""


class DockerDaemon(PrivateDaemon):
    """A daemon with an image, and a runtime, that carry the trace of `boxes`."""

    def __init__(self, directory: Path, boxes: Boxes) -> None:
        super().__init__(directory)
        self._boxes = boxes
        self._runtime = self._run / "runtime"

    def __enter__(self) -> DockerDaemon:
        runc = shutil.which("runc")
        values = {"program": PROGRAM, "inside": PIPE, "outside": self._boxes.pipe, "runc": runc}
        self._runtime.write_text(_RUNTIME.format(**values))
        self._runtime.chmod(0o755)
        self.start()
        root = self._boxes.rootfs_dir / IMAGE
        archive = ["tar", "-C", str(root), "--exclude", f".{PIPE}", "-c", "."]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as tar:
            self.ask("import", "-", IMAGE, stdin=tar)
        return self

    def _program(self) -> list[str]:
        # In a network of its own: see the base class.
        return [str(shutil.which("unshare")), "--net", *super()._program()]

    def _options(self) -> list[str]:
        return ["--add-runtime", f"bed={self._runtime}", "--default-runtime", "bed"]
