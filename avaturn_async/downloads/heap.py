"""Keep memory that is freed and needed again at once."""

__all__ = ["keep_freed"]

_BLOCK = 8 * 1024 * 1024


def keep_freed() -> None:
    """Have glibc keep up to 16 MiB of freed memory, where it would give back all but 128 to 512 KiB.

    The pieces of a download are freed in a thread a moment after others were made on the loop. Given back to the kernel
    each time, their pages are new ones again and again, which costs more than to receive what they hold. glibc raises
    its bounds itself when it sees a big block freed (mallopt(3), M_MMAP_THRESHOLD): so it is shown one, of which no
    page is ever touched. Elsewhere that does nothing.
    """
    bytes(_BLOCK)
