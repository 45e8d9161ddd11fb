"""The clone phase: git in a sandbox, configured to run nothing that the repository names.

The script is the engine's own; URL and ref are environment variables, never part of the
script's text. Hooks, templates, filters, submodules, the file-system monitor and all protocols
but http and https are disabled, and the sandbox reaches only the repository's host and port.
Links that lead out of the repository are removed, since who reads them later may see the tests; an
archive with such is refused, but repositories have honest ones, as virtual environments do. A depth
that programs which call themselves for each level do not survive is refused, as in archives.
"""

from __future__ import annotations

import re
from typing import Final

from job_engine.grading.archive.names import MAX_DEPTH
from job_engine.grading.submission import GitSource
from job_engine.sandbox.base import WORKSPACE, Limits, Mount, PhaseSpec, Reach

MISSING_FILES: Final = 66
"""Exit code of the script when the repository lacks files that the assignment expects."""
TOO_DEEP: Final = 68
"""Exit code of the script when a file lies deeper than one of an archive may."""

_AWAY: Final = re.compile(
    rb"""^(?:fatal|error|fetch-pack):[ ].*(?:
    (?:returned[ ]error:|response|HTTP[ ]code|RPC[ ]failed;[ ]HTTP)[ ](?:429|5\d\d)\b
    |Failed[ ]to[ ]connect|Connection[ ](?:reset|refused)|Proxy[ ]CONNECT[ ]aborted
    |timed[ ]out|connection[ ]timeout|Operation[ ]too[ ]slow
    |Empty[ ]reply[ ]from[ ]server|Broken[ ]pipe
    |hung[ ]up[ ]unexpectedly|early[ ]EOF|unexpected[ ]disconnect
    |transfer[ ]closed[ ]with|was[ ]not[ ]closed[ ]cleanly
    |HTTP/2[ ]stream[ ]\d+[ ]was[ ]reset
    |Failed[ ]sending[ ]data|Failure[ ]when[ ]receiving[ ]data
    |non-properly[ ]terminated|GnuTLS[ ]recv[ ]error[ ]\(-(?:9|54|110)\)
    |Error[ ]in[ ]the[ ](?:pull|push)[ ]function
    |SSL_ERROR_SYSCALL|unexpected[ ]eof[ ]while[ ]reading
    |certificate[ ]is[ ]not[ ]yet[ ]valid)""",
    re.MULTILINE | re.VERBOSE,
)
"""What git and curl say where the same request may succeed a while later, or on another executor
whose clock is right. A name that does not exist is none of it: the egress proxy answers 404."""

_REFUSED: Final = re.compile(
    rb"^(?:fatal|error): .*(?:returned error:|response|HTTP code|RPC failed; HTTP) 4(?!29)\d\d\b",
    re.MULTILINE,
)
"""A refusal, after which git also says that the other end hung up."""

_SERVERS_WORDS: Final = re.compile(rb"^fatal: remote error: .*", re.MULTILINE | re.DOTALL)
"""An error that the server worded, perhaps in several lines; git says nothing after it. Its other
messages begin with `remote:`, in every line."""

_COMMIT: Final = re.compile(rb"^([0-9a-f]{40}|[0-9a-f]{64})$", re.MULTILINE)

# git starts the credential helper with a pipe as standard input, so the phase's own input is
# kept as descriptor 3. Each call of the helper reads one answer, up to an empty line.
_SCRIPT: Final = r"""
set -u
umask 022
exec 3<&0 </dev/null
export HOME=/tmp GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
export GIT_LFS_SKIP_SMUDGE=1 GIT_ASKPASS=/bin/false GIT_OPTIONAL_LOCKS=0 LC_ALL=C.UTF-8
helper='!f() { [ "$1" = get ] || exit 0
while IFS= read -r line <&3 && [ -n "$line" ]; do printf "%s\n" "$line"; done; }; f'
g() {
  git -c protocol.allow=never -c protocol.https.allow=always -c protocol.http.allow=always \
    -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.attributesFile=/dev/null \
    -c submodule.recurse=false -c fetch.recurseSubmodules=false -c fetch.fsckObjects=true \
    -c http.lowSpeedLimit=1 -c http.lowSpeedTime=20 \
    -c gc.auto=0 -c maintenance.auto=false -c advice.detachedHead=false \
    -c init.defaultBranch=main -c safe.directory='*' \
    -c filter.lfs.smudge= -c filter.lfs.process= -c filter.lfs.required=false \
    -c credential.helper= -c credential.helper="$helper" "$@"
}
want=FETCH_HEAD
g init --quiet --template= . || exit 1
if [ "$SUBMISSION_IS_COMMIT" = 0 ]; then
  g fetch --quiet --depth 1 --no-tags -- "$SUBMISSION_URL" "$SUBMISSION_REF" || exit 1
# A server may refuse to give a commit by its name; then it is looked for in its branches. Only
# what is said of those counts: `is_away` reads it.
elif ! g fetch --quiet --depth 1 --no-tags -- "$SUBMISSION_URL" "$SUBMISSION_REF" 2>/dev/null; then
  g fetch --quiet --no-tags -- "$SUBMISSION_URL" '+refs/heads/*:refs/remotes/origin/*' || exit 1
  want=$SUBMISSION_REF
fi
g checkout --quiet --force --detach "$want" || exit 1
commit=$(g rev-parse --verify HEAD) || exit 1
[ "$SUBMISSION_KEEP_GIT" = 1 ] || rm -rf .git
[ -z "$(find . -mindepth MAX_DEPTH | head -n 1)" ] || exit 68
# A link leads out by its own `..`, or through another such. A `..` after a link would not lead
# where the text says, as in archives.
removed=$(find . -path ./.git -prune -o -type l -exec sh -c '
for link; do
  target=$(readlink "$link") || exit 1
  place=${link%/*} out=
  case $target in /*) out=1 ;; esac
  while [ -z "$out" ] && [ -n "$target" ]; do
    step=${target%%/*}
    case $target in */*) target=${target#*/} ;; *) target= ;; esac
    case $step in
    "" | .) ;;
    ..) if [ "$place" = . ] || [ -L "$place" ]; then out=1; fi; place=${place%/*} ;;
    *) place=$place/$step ;;
    esac
  done
  [ -z "$out" ] || { rm -f "$link" && printf "%s\n" "$link"; } || exit 1
done' links {} +) || exit 1
[ -z "$removed" ] || printf '%s\n' "$removed" |
  sed -e '1,20s/^/removed, for it leads out of the repository: /' \
    -e '21s/.*/and more/' -e '22,$d' >&2
missing=0
for name in "$@"; do
  [ -e "$name" ] || { printf 'missing: %s\n' "$name" >&2; missing=1; }
done
[ "$missing" = 0 ] || exit 66
printf '%s\n' "$commit"
""".replace("MAX_DEPTH", str(MAX_DEPTH + 1))


def clone_phase(
    source: GitSource,
    *,
    target: str,
    limits: Limits,
    image: str | None,
    expected: tuple[str, ...],
) -> PhaseSpec:
    """Return the phase that fetches from `source`'s host into the workspace at `target`.

    It is the same for all submissions from there; `clone_env` names the one to fetch.
    """
    host, port = source.address()
    return PhaseSpec(
        name="clone",
        command=("sh", "-c", _SCRIPT, "clone", *expected),
        limits=limits,
        mounts=(Mount(tree=WORKSPACE, target=target),),
        workdir=target,
        image=image,
        reach=(Reach(host=host, port=port),),
    )


def clone_env(source: GitSource, *, keep_git: bool) -> dict[str, str]:
    """Return the variables that `go` adds to the phase's environment."""
    return {
        "SUBMISSION_URL": source.url,
        "SUBMISSION_REF": source.wanted,
        "SUBMISSION_IS_COMMIT": "1" if source.commit else "0",
        "SUBMISSION_KEEP_GIT": "1" if keep_git else "0",
    }


def is_away(stderr: bytes) -> bool:
    """Return whether the phase failed because the repository's host could not be talked to.

    `stderr` is that of the last fetch and of what followed it.
    """
    said = _SERVERS_WORDS.sub(b"", stderr)
    return _AWAY.search(said) is not None and _REFUSED.search(said) is None


def commit_of(stdout: bytes) -> str | None:
    """Return the commit id that the phase printed."""
    found = _COMMIT.findall(stdout)
    return str(found[-1].decode()) if found else None
