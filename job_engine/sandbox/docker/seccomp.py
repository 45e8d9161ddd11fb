"""The system-call profile of every container, in the form that Docker takes.

It is an allow-list of our own: Docker's built-in one differs between releases, and old ones
allow AF_VSOCK, which reaches the host's hypervisor, and other socket families that no course
needs. It refuses namespaces, mounts, keys, kernel modules, clocks,
BPF, performance events, io_uring, userfaultfd, and the calls of other architectures (32 bit
and x32, which the kernel kills). ptrace stays: debuggers and the leak checker of the address
sanitizer need it, and since Linux 4.8 it cannot get past a filter.

Form: https://docs.docker.com/engine/security/seccomp/ and the runtime specification's
"seccomp" section. Names that the host's libseccomp does not know are skipped there.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from job_engine.sandbox import syscall_rules

_IPPROTO_MPTCP: Final = 262
"""Go tries it first."""
_COUNTED_BY_USER: Final = ("inotify_init", "inotify_init1")
"""Few for each user (128 by default), and the host's services need some."""
_SYNC: Final = ("sync", "syncfs", "fsync", "fdatasync", "sync_file_range", "sync_file_range2")
_ABSENT: Final = (
    # glibc falls back to clone, whose flags a filter can read.
    "clone3",
    # Requests come from one stock of the whole host; programs do without.
    "io_setup",
    # What the kernel keeps of each page of shared memory is counted by no cgroup.
    *("mbind", "set_mempolicy", "get_mempolicy", "set_mempolicy_home_node"),
    # Tells which files of its image others have read.
    "cachestat",
)
"""Calls that are answered with ENOSYS, as by a kernel without them."""
_LARGE_OPTIONS: Final = (0x5356_4D41, 0x5961_6D61)
"""PR_SET_VMA, by which memory is named, and PR_SET_PTRACER, which sanitizers need."""
_LOW_HALF: Final = 2**32 - 1
_ATTRIBUTES: Final = ("setxattr", "lsetxattr", "fsetxattr", "setxattrat")
"""An access list (`posix_acl`) takes up to 64 KiB of uncounted memory a file. The answer is that
of file systems without attributes."""
_ALLOWED: Final = """\
    accept accept4 access alarm arch_prctl bind brk capget capset chdir chmod chown clock_getres
    clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
    execve execveat exit exit_group faccessat faccessat2 fallocate fchdir fchmod fchmodat
    fchmodat2 fchown fchownat fgetxattr flistxattr flock fork fremovexattr fstat fstatat fstatfs
    ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat get_robust_list
    get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid
    getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioprio_get
    ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
    lgetxattr link linkat listen listxattr listxattrat llistxattr lremovexattr lseek lstat
    madvise map_shadow_stack membarrier memfd_create mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd munlock munlockall munmap nanosleep
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc
    pkey_free pkey_mprotect poll ppoll pread64 preadv preadv2 process_mrelease process_vm_readv
    process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename
    renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield select semctl semget semop semtimedop sendfile sendmmsg
    sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid
    setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setsid setuid
    shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 splice stat statfs statx
    symlink symlinkat sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill
    truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid
    write writev
"""


def profile(*, host_root: bool = False) -> str:
    """Return the profile as JSON; `for_root` is for phases that run as the host's uid 0."""
    withheld = _COUNTED_BY_USER if host_root else ()
    rules = [
        _allow(*(name for name in _ALLOWED.split() if name not in withheld)),
        {"names": list(_ABSENT), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        {"names": list(_ATTRIBUTES), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EOPNOTSUPP},
        *_limits(),
        _allow("clone", _masked(syscall_rules.NEW_NAMESPACES, 0)),
        *(_allow("personality", _equal(value)) for value in syscall_rules.PERSONALITIES),
        *_sockets(),
        # They flush the host's caches, also through a file that is open for reading only, and
        # nothing of a phase's is on a disk.
        *map(_done, _SYNC),
        _allow("msync", _bits(syscall_rules.MS_SYNC, 0)),
        _done("msync", _bits(syscall_rules.MS_SYNC, syscall_rules.MS_SYNC)),
        *_all_but("fcntl", 1, syscall_rules.DESCRIPTION_LOCKS, bits=11),
        *(
            {**_done("fcntl", {**_equal(command), "index": 1}), "errnoRet": errno.EINVAL}
            for command in syscall_rules.DESCRIPTION_LOCKS
        ),
        *_all_but("ioctl", 1, (syscall_rules.LINE_DISCIPLINE,), bits=32),
        *_all_but("prctl", 0, (syscall_rules.CORE_SCHEDULING,), bits=7),
        *(_allow("prctl", _equal(option)) for option in _LARGE_OPTIONS),
        _allow("seccomp", {**_masked(syscall_rules.FILTER_LISTENER, 0), "index": 1}),
        *_all_but("fadvise64", 3, (syscall_rules.DROP_CACHE,), bits=3),
        _done("fadvise64", {**_equal(syscall_rules.DROP_CACHE), "index": 3}),
        # Programs fall back to polling.
        *(
            {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EMFILE}
            for name in withheld
        ),
    ]
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": errno.EPERM,
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
            ],
            "syscalls": rules,
        },
        separators=(",", ":"),
    )


def _limits() -> list[dict[str, Any]]:
    """Return the rules for resource limits; RLIMIT_CORE cannot be changed.

    See `syscall_rules.RLIMIT_CORE`.
    """
    core = {**_equal(syscall_rules.RLIMIT_CORE), "index": 1}
    return [
        *_all_but("setrlimit", 0, (syscall_rules.RLIMIT_CORE,), bits=4),
        *_all_but("prlimit64", 1, (syscall_rules.RLIMIT_CORE,), bits=4),
        _allow("prlimit64", core, {**_equal(0), "index": 2}),
        _done("setrlimit", _equal(syscall_rules.RLIMIT_CORE)),
        _done("prlimit64", core, {**_unequal(0), "index": 2}),
    ]


def _sockets() -> list[dict[str, Any]]:
    """Return the rules for sockets and their options."""
    return [
        _allow("socket", "socketpair", _equal(syscall_rules.AF_UNIX)),
        *(
            _allow("socket", _equal(family), {**_equal(protocol), "index": 2})
            for family in syscall_rules.INTERNET_FAMILIES
            for protocol in syscall_rules.INTERNET_PROTOCOLS
        ),
        *(
            _refuse(errno.EPROTONOSUPPORT, _equal(family), {**_equal(_IPPROTO_MPTCP), "index": 2})
            for family in syscall_rules.INTERNET_FAMILIES
        ),
        _refuse(syscall_rules.NO_NETLINK, _equal(syscall_rules.AF_NETLINK)),
        *_options(syscall_rules.SOCKET_OPTIONS),
        *(
            {**_done("setsockopt", *_option(level, name)), "errnoRet": error}
            for level, answers in syscall_rules.SOCKET_OPTIONS.items()
            for name, error in answers.items()
        ),
    ]


def _options(refused: Mapping[int, Collection[int]]) -> Iterator[dict[str, Any]]:
    """Return the rules that allow socket options except the refused ones, by level."""
    yield from _all_but("setsockopt", 1, refused, bits=9)
    for level, names in refused.items():
        yield from _all_but("setsockopt", 2, names, {**_equal(level), "index": 1}, bits=7)


def _option(level: int, name: int) -> Iterator[dict[str, Any]]:
    yield {**_equal(level), "index": 1}
    yield {**_equal(name), "index": 2}


def _refuse(error: int, *tests: dict[str, Any]) -> dict[str, Any]:
    """Return the rule that refuses sockets, with an error that programs handle."""
    args = [{"index": 0, **test} for test in tests]
    return {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": error, "args": args}


def _allow(*names_and_test: str | dict[str, Any]) -> dict[str, Any]:
    names = [item for item in names_and_test if isinstance(item, str)]
    tests = [{"index": 0, **item} for item in names_and_test if isinstance(item, dict)]
    return {"names": names, "action": "SCMP_ACT_ALLOW", **({"args": tests} if tests else {})}


def _done(name: str, *tests: dict[str, Any]) -> dict[str, Any]:
    """Return the rule for a call that reports success without being made."""
    args = [{"index": 0, **test} for test in tests]
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 0, "args": args}


def _all_but(
    call: str, index: int, refused: Collection[int], *tests: dict[str, Any], bits: int
) -> list[dict[str, Any]]:
    """Return the rules that allow a call for all values of an argument except the refused ones.

    The kernel reads the low half of such an argument, but libseccomp compares all of it: a test
    for "unequal" would pass a refused number with any bit set in the high half. So the allowed
    numbers are matched instead, by masks on the low half.
    """
    blocks = _others(refused, 0, bits)
    return [_allow(call, {**test, "index": index}, *tests) for test in blocks]


def _others(refused: Collection[int], start: int, bits: int) -> Iterator[dict[str, Any]]:
    """Yield aligned blocks of the allowed numbers from `start` to `start + 2**bits` (exclusive)."""
    end = start + 2**bits
    if not any(start <= number < end for number in refused):
        yield _masked(_LOW_HALF - (2**bits - 1), start)
    elif bits:
        yield from _others(refused, start, bits - 1)
        yield from _others(refused, start + 2 ** (bits - 1), bits - 1)


def _bits(mask: int, value: int) -> dict[str, Any]:
    """Return the test of the third argument, whose bits are flags."""
    return {**_masked(mask, value), "index": 2}


def _masked(mask: int, value: int) -> dict[str, Any]:
    return {"op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}


def _equal(value: int) -> dict[str, Any]:
    return {"op": "SCMP_CMP_EQ", "value": value}


def _unequal(value: int) -> dict[str, Any]:
    return {"op": "SCMP_CMP_NE", "value": value}
