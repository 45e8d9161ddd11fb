import os, pathlib, pwd

ROOT = pathlib.Path("/autograder" if os.path.exists("/autograder/harness.py") else "/at/home")


def owner(path: "str | os.PathLike[str]") -> str:
    return pwd.getpwuid(os.stat(path).st_uid).pw_name
