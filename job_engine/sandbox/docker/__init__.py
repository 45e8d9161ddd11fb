"""The Docker backend: a holder container for each slot, and one container for each phase.

Trees are tmpfs volumes, which Docker empties once no container holds them; the *holder*
holds them, fills them and reads them, without a network and without a capability. A
phase's container sees the volumes where its mounts say, and its own private /tmp. It is
started with the slot, runs a few lines of ours (`wait.sh`) until its go, and then the phase.

What must hold: no path of the host is bound; nothing runs as uid 0; every container and
volume carries the owner's label from the moment it exists; what is read out of a tree is
hostile; and only the executor's own process keeps a slot alive, so that its death ends
the holder (its standard input closes) and the next start sweeps up the rest.
"""

from job_engine.sandbox.docker.backend import DockerSandbox

__all__ = ["DockerSandbox"]
