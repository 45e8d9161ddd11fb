"""The Docker backend: a holder container for each slot, and one container for each phase.

Trees are tmpfs volumes, which Docker empties when no container uses them. So a *holder*
container, without network and capabilities, keeps them mounted, fills them and reads them. A
phase's container mounts the volumes that the phase sees, and a private /tmp. It is started
with the slot, waits for `go` in a few lines of shell (`wait.sh`), and then runs the phase.

What must hold: no path of the host is bound; nothing runs as uid 0; every container and
volume carries the owner's label from the moment it exists; what is read out of a tree is
hostile; and only the executor's own process keeps a slot alive, so that its death ends
the holder (its standard input closes) and the next start sweeps up the rest.
"""

from job_engine.sandbox.docker.backend import DockerSandbox

__all__ = ["DockerSandbox"]
