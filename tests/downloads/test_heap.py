"""Memory that is freed and needed again at once."""

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource
from avaturn_async.downloads.heap import keep_freed

keep_freed()


def churn():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        pieces = [b"x" * 300_000 for _ in range(8)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


churn()
print(churn())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have rules of their own")
def test_freed_memory_is_not_faulted_in_again():
    """Of 29,000 pages that come and go nearly all are the same ones, where without the hint each is a new one."""
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 1000
