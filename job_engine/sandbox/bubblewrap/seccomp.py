"""The system-call filter, assembled for the kernel's classic BPF without a library.

It is a deny-list, because the needs of course programs are open-ended. Isolation rests on
namespaces, missing capabilities and cgroups; the filter removes younger and less tested system
calls from the attack surface. Calls of other tables (32 bit, x32) kill the process, because
numbers mean other calls there. ptrace stays allowed between a phase's own processes: debuggers
and the leak checker of the address sanitizer need it, and since Linux 4.8 it cannot bypass a
filter.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

from job_engine.sandbox import syscall_rules

_RETURN: Final = 0x06
_LOAD: Final = 0x20
_AND: Final = 0x54
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER_EQUAL: Final = 0x35

_ALLOW: Final = 0x7FFF_0000
_KILL: Final = 0x8000_0000
_ERRNO: Final = 0x0005_0000

_NUMBER_OFFSET: Final = 0
_ARCH_OFFSET: Final = 4
_ARGUMENT_OFFSET: Final = 16
_X32_BIT: Final = 0x4000_0000

_AUDIT_ARCH: Final = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}

# Names by call number: (x86_64, aarch64); None where the architecture has no such call.
_DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "memfd_secret": (447, 447),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "kcmp": (312, 272),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "nfsservctl": (180, 42),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "vserver": (236, None),
}
_ABSENT: Final[dict[str, tuple[int, int]]] = {
    # What the kernel keeps of each page of shared memory is counted by no cgroup.
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "get_mempolicy": (239, 236),
    "set_mempolicy_home_node": (450, 450),
    # Tells which of the host's files others have read.
    "cachestat": (451, 451),
    # glibc falls back to clone, whose flags a filter can read.
    "clone3": (435, 435),
    # Requests come from one stock of the whole host; programs do without.
    "io_setup": (206, 0),
}
"""Calls that fail with ENOSYS, as on a kernel without them."""
_ATTRIBUTES: Final = ((188, 5), (189, 6), (190, 7), (463, 463))
"""`setxattr`, `lsetxattr`, `fsetxattr` and `setxattrat`: an access list (`posix_acl`) takes up to
64 KiB of uncounted memory a file. The answer is that of file systems without attributes."""
_FIRST_UNKNOWN: Final = 467
"""First number of calls that are newer than this filter, and refused."""
_CLONE: Final = (56, 220)
_IOCTL: Final = (16, 29)
_PERSONALITY: Final = (135, 92)
_SOCKET: Final = (41, 198)
_SOCKETPAIR: Final = (53, 199)
_SETSOCKOPT: Final = (54, 208)
_PRCTL: Final = (157, 167)
_SECCOMP: Final = (317, 277)
_FADVISE: Final = (221, 223)
_SYNC: Final = ((162, 81), (306, 267), (74, 82), (75, 83), (277, 84))
"""`sync`, `syncfs`, `fsync`, `fdatasync` and `sync_file_range`: they flush the host's caches, also
through a file of /usr that is open for reading only, and nothing of a phase's is on a disk."""
_MSYNC: Final = (26, 227)
_FCNTL: Final = (72, 25)
_TERMINALS: Final = (0x5412, 0x541C, syscall_rules.LINE_DISCIPLINE)
"""TIOCSTI and TIOCLINUX, which type into a terminal that others may share, and TIOCSETD."""
_DONE: Final = 0
"""Errno 0: the call is not made, but reports success."""
_SETRLIMIT: Final = (160, 164)
_PRLIMIT: Final = (302, 261)


class _Assembler:
    """Emits blocks that fall through unless they return; jumps stay inside a block."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int]] = []

    def emit(self, code: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        self.code.append((code, if_true, if_false, value))

    def load_argument(self, index: int) -> None:
        # The low half, on little-endian machines; the kernel reads these arguments as ints.
        self.emit(_LOAD, _ARGUMENT_OFFSET + 8 * index)

    def load_upper_half(self, index: int) -> None:
        self.emit(_LOAD, _ARGUMENT_OFFSET + 8 * index + 4)

    def answer(self, number: int) -> None:
        self.emit(_RETURN, _ERRNO | number)

    def on_call(self, number: int, block: _Assembler) -> None:
        """Run `block` for one call; it must end by returning."""
        self.emit(_JUMP_EQUAL, number, 0, len(block.code))
        self.code += block.code

    def bytes(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in self.code)


def build(machine: str) -> bytes:
    """Return the filter for `machine` (`x86_64` or `aarch64`), as bubblewrap reads it.

    Raises `KeyError` for another machine.
    """
    arch, column = _AUDIT_ARCH[machine], list(_AUDIT_ARCH).index(machine)
    out = _Assembler()
    out.emit(_LOAD, _ARCH_OFFSET)
    out.emit(_JUMP_EQUAL, arch, 1, 0)
    out.emit(_RETURN, _KILL)
    out.emit(_LOAD, _NUMBER_OFFSET)
    if machine == "x86_64":
        out.emit(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1)
        out.emit(_RETURN, _KILL)
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            out.emit(_JUMP_EQUAL, number, 0, 1)
            out.answer(errno.EPERM)
    for numbers in _ABSENT.values():
        out.emit(_JUMP_EQUAL, numbers[column], 0, 1)
        out.answer(errno.ENOSYS)
    for numbers in _ATTRIBUTES:
        out.emit(_JUMP_EQUAL, numbers[column], 0, 1)
        out.answer(errno.EOPNOTSUPP)
    out.on_call(_CLONE[column], _none_of_bits(0, syscall_rules.NEW_NAMESPACES, errno.EPERM))
    out.on_call(_IOCTL[column], _none_of(1, _TERMINALS, errno.EPERM))
    out.on_call(_PERSONALITY[column], _one_of(0, syscall_rules.PERSONALITIES, errno.EPERM))
    out.on_call(_PRCTL[column], _none_of(0, (syscall_rules.CORE_SCHEDULING,), errno.EINVAL))
    out.on_call(_SECCOMP[column], _none_of_bits(1, syscall_rules.FILTER_LISTENER, errno.EINVAL))
    out.on_call(_FADVISE[column], _none_of(3, (syscall_rules.DROP_CACHE,), _DONE))
    out.on_call(_SETRLIMIT[column], _none_of(0, (syscall_rules.RLIMIT_CORE,), _DONE))
    out.on_call(_PRLIMIT[column], _no_new_core_limit())
    out.on_call(_SOCKET[column], _socket())
    out.on_call(_SOCKETPAIR[column], _one_of(0, (syscall_rules.AF_UNIX,), errno.EAFNOSUPPORT))
    out.on_call(_SETSOCKOPT[column], _socket_option())
    for numbers in _SYNC:
        out.emit(_JUMP_EQUAL, numbers[column], 0, 1)
        out.answer(_DONE)
    out.on_call(_FCNTL[column], _none_of(1, syscall_rules.DESCRIPTION_LOCKS, errno.EINVAL))
    out.on_call(_MSYNC[column], _none_of_bits(2, syscall_rules.MS_SYNC, _DONE))
    out.emit(_JUMP_GREATER_EQUAL, _FIRST_UNKNOWN, 0, 1)
    out.answer(errno.ENOSYS)
    out.emit(_RETURN, _ALLOW)
    return out.bytes()


def _none_of_bits(argument: int, bits: int, error: int) -> _Assembler:
    block = _Assembler()
    block.load_argument(argument)
    block.emit(_AND, bits)
    block.emit(_JUMP_EQUAL, 0, 1, 0)
    block.answer(error)
    block.emit(_RETURN, _ALLOW)
    return block


def _no_new_core_limit() -> _Assembler:
    """Allow prlimit to read the limit, which it does if the pointer to a new one is null."""
    new_limit = _Assembler()
    for load in (new_limit.load_argument, new_limit.load_upper_half):
        load(2)
        new_limit.emit(_JUMP_EQUAL, 0, 1, 0)
        new_limit.answer(_DONE)
    new_limit.emit(_RETURN, _ALLOW)
    block = _Assembler()
    block.load_argument(1)
    block.on_call(syscall_rules.RLIMIT_CORE, new_limit)
    block.emit(_RETURN, _ALLOW)
    return block


def _socket() -> _Assembler:
    block = _Assembler()
    block.load_argument(0)
    block.emit(_JUMP_EQUAL, syscall_rules.AF_UNIX, 0, 1)
    block.emit(_RETURN, _ALLOW)
    for family in syscall_rules.INTERNET_FAMILIES:
        block.on_call(family, _one_of(2, syscall_rules.INTERNET_PROTOCOLS, errno.EPROTONOSUPPORT))
    no_netlink = _Assembler()
    no_netlink.answer(syscall_rules.NO_NETLINK)
    block.on_call(syscall_rules.AF_NETLINK, no_netlink)
    block.answer(errno.EAFNOSUPPORT)
    return block


def _socket_option() -> _Assembler:
    block = _Assembler()
    block.load_argument(1)
    for level, answers in syscall_rules.SOCKET_OPTIONS.items():
        names = _Assembler()
        names.load_argument(2)
        for name, error in answers.items():
            names.emit(_JUMP_EQUAL, name, 0, 1)
            names.answer(error)
        names.emit(_RETURN, _ALLOW)
        block.on_call(level, names)
    block.emit(_RETURN, _ALLOW)
    return block


def _none_of(argument: int, values: tuple[int, ...], error: int) -> _Assembler:
    block = _Assembler()
    block.load_argument(argument)
    for value in values:
        block.emit(_JUMP_EQUAL, value, 0, 1)
        block.answer(error)
    block.emit(_RETURN, _ALLOW)
    return block


def _one_of(argument: int, values: tuple[int, ...], error: int) -> _Assembler:
    block = _Assembler()
    block.load_argument(argument)
    for value in values:
        block.emit(_JUMP_EQUAL, value, 0, 1)
        block.emit(_RETURN, _ALLOW)
    block.answer(error)
    return block
