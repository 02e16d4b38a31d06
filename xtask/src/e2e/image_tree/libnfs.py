"""Walks an NFSv3 export with libnfs and prints a line for each object.

usage: libnfs.py nfs://server/path LIBRARY

Attributes are those of fstat for a file and of lstat for anything else, which libnfs gets by LOOKUP and GETATTR; those
of the listing (READDIRPLUS) must be the same. A line is: path mode uid gid mtime nanoseconds size links rdev fileid
content. Path and the target of a symlink are in hex, the content of a file is its SHA-256; "-" is an empty word.
"""

import concurrent.futures
import ctypes
import hashlib
import stat
import sys
import threading
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_long, c_uint32, c_uint64, c_void_p

CHUNK = 1 << 20
# Each has a connection with one call under way.
THREADS = 6


class Stat(Structure):
    """struct nfs_stat_64"""

    _fields_ = [
        (name, c_uint64)
        for name in """dev ino mode nlink uid gid rdev size blksize blocks atime mtime ctime
        atime_nsec mtime_nsec ctime_nsec used""".split()
    ]


class Time(Structure):
    """struct timeval"""

    _fields_ = [("seconds", c_long), ("microseconds", c_long)]


class Entry(Structure):
    """struct nfsdirent"""


Entry._fields_ = [
    ("next", POINTER(Entry)),
    ("name", c_char_p),
    ("ino", c_uint64),
    ("type", c_uint32),
    ("mode", c_uint32),
    ("size", c_uint64),
    ("atime", Time),
    ("mtime", Time),
    ("ctime", Time),
    ("uid", c_uint32),
    ("gid", c_uint32),
    ("nlink", c_uint32),
    ("dev", c_uint64),
    ("rdev", c_uint64),
    ("blksize", c_uint64),
    ("blocks", c_uint64),
    ("used", c_uint64),
    ("atime_nsec", c_uint32),
    ("mtime_nsec", c_uint32),
    ("ctime_nsec", c_uint32),
]


class Export:
    """An export, mounted by libnfs."""

    def __init__(self, url, library):
        self.nfs = ctypes.CDLL(library)
        for name in ("nfs_init_context", "nfs_parse_url_dir"):
            getattr(self.nfs, name).restype = c_void_p
        self.nfs.nfs_get_error.restype = c_char_p
        self.nfs.nfs_readdir.restype = POINTER(Entry)
        self.context = c_void_p(self.nfs.nfs_init_context())
        self.buffer = ctypes.create_string_buffer(CHUNK)
        parsed = ctypes.cast(self.nfs.nfs_parse_url_dir(self.context, url.encode()), POINTER(c_char_p))
        if not parsed:
            raise ValueError(f"libnfs does not take {url}")
        # struct nfs_url begins with server and path.
        self.call("nfs_mount", parsed[0], parsed[1])

    def call(self, name, *arguments):
        result = getattr(self.nfs, name)(self.context, *arguments)
        if result < 0:
            reason = self.nfs.nfs_get_error(self.context) or b""
            raise OSError(f"{name} {arguments}: {result} {reason.decode(errors='replace')}")
        return result

    def list(self, path):
        directory = c_void_p()
        self.call("nfs_opendir", path, byref(directory))
        while entry := self.nfs.nfs_readdir(self.context, directory):
            entry = entry.contents
            if entry.name not in (b".", b".."):
                times = [entry.mtime.seconds, entry.mtime_nsec]
                yield entry.name, [entry.mode, entry.uid, entry.gid, *times, entry.size, entry.nlink, entry.rdev, entry.ino]
        self.nfs.nfs_closedir(self.context, directory)

    def file(self, path):
        """Attributes and content."""
        file, found, content = c_void_p(), Stat(), hashlib.sha256()
        self.call("nfs_open", path, 0, byref(file))
        self.call("nfs_fstat64", file, byref(found))
        while length := self.call("nfs_read", file, c_uint64(CHUNK), self.buffer):
            content.update(memoryview(self.buffer)[:length])
        self.call("nfs_close", file)
        return found, content.hexdigest()

    def other(self, path, is_link):
        """Attributes, and target if it is a symlink."""
        found = Stat()
        self.call("nfs_lstat64", path, byref(found))
        if not is_link:
            return found, "-"
        self.call("nfs_readlink", path, self.buffer, c_int(CHUNK))
        return found, self.buffer.value.hex()

    def line(self, path, listed):
        mode = listed[0] if listed else stat.S_IFDIR
        found, content = self.file(path) if stat.S_ISREG(mode) else self.other(path, stat.S_ISLNK(mode))
        names = ("mode", "uid", "gid", "mtime", "mtime_nsec", "size", "nlink", "rdev", "ino")
        seen = [getattr(found, name) for name in names]
        if listed and seen != listed:
            raise ValueError(f"{path}: READDIRPLUS says {listed}, GETATTR {seen}")
        return " ".join(map(str, (path[1:].hex() or "-", *seen, content)))


def walk(url, library):
    """All lines. One connection lists the directories, others look at what is in them."""
    local = threading.local()

    def mount():
        local.export = Export(url, library)

    lister = Export(url, library)
    with concurrent.futures.ThreadPoolExecutor(THREADS, initializer=mount) as threads:
        look = lambda path, listed: threads.submit(lambda: local.export.line(path, listed))
        lines = [look(b"/", None)]
        directories = [b""]
        while directories:
            directory = directories.pop()
            for name, listed in lister.list(directory or b"/"):
                path = directory + b"/" + name
                lines.append(look(path, listed))
                if stat.S_ISDIR(listed[0]):
                    directories.append(path)
        for line in lines:
            print(line.result())


walk(sys.argv[1], sys.argv[2])
